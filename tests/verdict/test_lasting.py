"""Drift that no window shows by itself: found in the newest ones together, with its date, and rarely where there is none."""

from dataclasses import replace
from datetime import timedelta
from functools import cache

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.run_length import CountedRecords, alarms, factors_without_drift
from eye_disease.profiles.critical_values import WINDOW_SIZES
from eye_disease.profiles.label_shift import ClassParts
from eye_disease.profiles.layout import Layout
from eye_disease.profiles.profile import Profile
from eye_disease.profiles.reference import Reference
from eye_disease.verdict.explain import explain
from eye_disease.verdict.lasting import ALONE, LEVEL, MAX_WINDOWS, Lasting, LastingDrift, Recent, RecentWindow
from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.verdict import judge
from tests.support.drift_records import CLASSES, START, make_records

LIMITS = DriftLimits()
MORE_CATARACT = (0.34, 0.22, 0.22, 0.22)
"""A third more than the quarter that the reference has"""


@cache
def reference() -> Reference:
    """Without the critical values of single windows, which take seconds; none is ever beyond these."""
    records = make_records(1_000, seed=1)
    layout = Layout.fit(records, CLASSES)
    probabilities = np.column_stack([records[f"prob_{name}"].to_numpy() for name in CLASSES])
    parts = ClassParts.of(probabilities, {}, {})
    critical = {name: (1.0,) * len(WINDOW_SIZES) for name in layout.streams}
    return Reference("validation", "m", "1", "", Profile.from_table(records, layout), parts, critical)


def window(number: int, n: int = 100, **changes: object) -> RecentWindow:
    """An hour after the one before."""
    tally = Profile.from_table(make_records(n, seed=5_000 + number, **changes), reference().layout).whole
    start = START + timedelta(hours=number)
    return RecentWindow(number, replace(tally, first=start, last=start + timedelta(minutes=50)))


@cache
def quiet() -> tuple[RecentWindow, ...]:
    """Forty windows without drift, numbers 1 to 40."""
    return tuple(window(i) for i in range(1, 41))


def judged(windows: tuple[RecentWindow, ...]) -> Lasting:
    return LastingDrift(reference(), LIMITS).judge(windows)


@pytest.mark.parametrize("count", [1, 2, 3, 17, 40])
def test_windows_without_drift_are_not_found(count: int) -> None:
    result = judged(quiet()[:count])
    assert result.merged is None
    assert result.since is None
    assert [check.level for check in result.checks] == ["ok"]


@pytest.mark.parametrize(("stream", "changes"), [("prob_cataract", {"mix": MORE_CATARACT}), ("sharpness", {"sharpness": 0.91})])
def test_a_weak_drift_is_found_within_ten_windows_and_dated(stream: str, changes: dict[str, object]) -> None:
    drifting = tuple(window(i, **changes) for i in range(41, 51))
    at = next(i for i in range(1, 11) if judged(quiet() + drifting[:i]).merged is not None)
    assert at > 1
    result = judged(quiet() + drifting)
    assert result.checks[0].stream == stream
    assert result.checks[0].level == "drift"
    assert result.checks[0].windows > 1
    assert f"the newest {result.checks[0].windows} windows together" in str(result.checks[0])
    assert result.since is not None
    assert abs(result.since.number - 41) <= 2
    assert result.since.first_number <= 41 <= result.since.last_number
    assert result.since.start == START + timedelta(hours=result.since.number)
    assert result.merged is not None
    assert result.merged.answered == result.checks[0].n == 100 * result.checks[0].windows


def test_a_drift_from_the_first_window_on_is_found_too() -> None:
    drifting = tuple(window(i, mix=MORE_CATARACT) for i in range(1, 31))
    result = judged(drifting)
    assert result.since is not None
    assert result.since.number <= 3
    assert not result.since.open


def test_a_drift_that_is_over_is_not_told_for_as_long_as_it_is_kept() -> None:
    drifting = tuple(window(i, mix=MORE_CATARACT) for i in range(41, 81))
    assert judged(quiet() + drifting).merged is not None
    after = tuple(window(i) for i in range(81, 88))
    result = judged(quiet() + drifting + after)
    assert result.merged is None
    assert [(check.level, "over by now" in str(check)) for check in result.checks] == [("ok", True)]


def test_small_windows_wait_for_each_other() -> None:
    few = tuple(window(i, n=10, sharpness=0.4) for i in range(1, 8))
    assert judged(few[:4]).checks == ()
    result = judged(few)
    assert result.checks[0].n >= LIMITS.min_predictions
    assert result.merged is not None


def test_limits_of_zero_leave_the_decision_to_chance() -> None:
    anything = DriftLimits(min_ks=0.0, min_share_change=0.0)
    assert LastingDrift(reference(), anything).judge(quiet()).merged is None


def test_only_so_many_windows_are_looked_at() -> None:
    many = tuple(replace(quiet()[i % 40], number=i + 1) for i in range(MAX_WINDOWS + 30))
    assert judged(many) == judged(many[-MAX_WINDOWS:])


def test_the_verdict_tells_since_when_and_keeps_the_date() -> None:
    drifting = tuple(window(i, sharpness=0.91) for i in range(41, 50))
    newest = Profile.from_table(make_records(100, seed=77, sharpness=0.91), reference().layout)
    known = Recent(quiet() + drifting)
    alone = judge(newest, reference(), LIMITS)
    assert (alone.status, alone.since) == ("ok", None)
    assert alone.lasting is not None
    assert alone.lasting < 1
    result = judge(newest, reference(), LIMITS, recent=known, number=50)
    assert (result.status, result.kind) == ("drift", "acquisition")
    assert result.lasting is not None
    assert result.lasting > 1
    assert result.since is not None
    assert abs(result.since.number - 41) <= 2
    assert f"(acquisition shift), {result.since}: sharpness" in explain(result)[0]
    assert result.to_json()["since"]["number"] == result.since.number
    rest = Recent(drifting, replace(result.since, number=30))
    assert judge(newest, reference(), LIMITS, recent=rest, number=50).since == replace(result.since, number=30)


def test_the_level_holds_in_windows_without_drift() -> None:
    """What `benchmarks/drift_run_length.py` does for years: the share of windows with a finding, at levels that show some."""
    population = CountedRecords.of(make_records(2_000, seed=2), reference().layout)
    records = make_records(2_000, seed=2)
    taken = records.take(pa.array(np.random.default_rng(3).integers(0, 2_000, 1_000)))
    drawn = replace(reference(), profile=Profile.from_table(taken, reference().layout))
    judged_by = LastingDrift(drawn, LIMITS)
    missed = np.concatenate(list(factors_without_drift(population, judged_by, 100, 1_000, np.random.default_rng(4))))
    for factor in (100_000, 10_000):
        assert (missed[:, 1:] <= factor).mean() <= factor * LEVEL
    assert (missed[:, 1:] > 1).all()
    assert (missed[:, 0] <= 1).mean() <= LIMITS.alpha * ALONE
    assert alarms((missed <= 1).any(axis=1), LIMITS) == 0
