from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from eye_disease.monitoring.alarm import AlarmState, is_due
from eye_disease.profiles.layout import Layout
from eye_disease.profiles.profile import Profile
from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.verdict import Status
from tests.support.drift_records import CLASSES, make_errors, make_records

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMITS = DriftLimits()


def run(statuses: list[Status], limits: DriftLimits = LIMITS) -> tuple[AlarmState, list[str]]:
    """The last state, and an event or `-` a window."""
    state, events = AlarmState(), []
    for status in statuses:
        state, event = state.after(status, limits)
        events.append(event or "-")
    return state, events


def test_two_bad_windows_raise_and_three_good_ones_clear() -> None:
    state, events = run(["ok", "drift", "drift", "drift", "ok", "warning", "ok", "ok"])
    assert events == ["-", "-", "raise", "-", "-", "-", "clear", "-"]
    assert state == AlarmState(raised=False, bad=0, good=4)


def test_a_single_bad_window_raises_nothing_and_a_good_one_between_starts_again() -> None:
    assert run(["drift", "ok", "drift", "ok", "drift"])[1] == ["-"] * 5
    assert run(["drift", "drift", "ok", "ok", "drift", "ok", "ok"])[1] == ["-", "raise", "-", "-", "-", "-", "-"]


def test_a_window_without_enough_data_changes_nothing() -> None:
    assert run(["drift", "insufficient_data", "drift"])[1] == ["-", "-", "raise"]
    assert AlarmState(True, 0, 2).after("insufficient_data", LIMITS) == (AlarmState(True, 0, 2), None)


def test_the_numbers_of_windows_are_settings() -> None:
    assert run(["drift", "ok"], DriftLimits(raise_after=1, clear_after=1))[1] == ["raise", "clear"]


@pytest.mark.parametrize("seed", range(40))
def test_events_alternate_and_follow_from_the_last_windows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    limits = DriftLimits(raise_after=int(rng.integers(1, 4)), clear_after=int(rng.integers(1, 5)))
    statuses = rng.choice(["ok", "warning", "drift", "insufficient_data"], 200, p=[0.3, 0.1, 0.4, 0.2]).tolist()
    _, events = run(statuses, limits)
    changes = [event for event in events if event != "-"]
    assert changes[::2] == ["raise"] * len(changes[::2])
    assert changes[1::2] == ["clear"] * len(changes[1::2])
    raised = False
    for i, event in enumerate(events):
        known = [status for status in statuses[: i + 1] if status != "insufficient_data"]
        bad = len(known) >= limits.raise_after and set(known[-limits.raise_after :]) == {"drift"}
        good = len(known) >= limits.clear_after and "drift" not in known[-limits.clear_after :]
        raised = bad or (raised and not good)
        so_far = events[: i + 1]
        last = next((event for event in reversed(so_far) if event != "-"), "clear")
        assert raised == (last == "raise"), (i, event)


@pytest.mark.parametrize("wrong", [{"bad": -1}, {"good": -2}, {"bad": 1, "good": 1}])
def test_an_impossible_state_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected counts"):
        AlarmState(**wrong)


@pytest.mark.parametrize(
    ("answers", "errors", "hours", "due"),
    [
        (49, 0, 1, False),
        (50, 0, 0, True),
        (30, 20, 0, True),
        (0, 50, 0, True),
        (49, 0, 23.9, False),
        (1, 0, 24, True),
        (0, 0, 24, True),
    ],
)
def test_a_window_waits_for_enough_records_or_a_day(answers: int, errors: int, hours: float, due: bool) -> None:
    layout = Layout.generic(CLASSES)
    profile = Profile.from_table(make_records(answers, seed=1), layout).merge(Profile.from_table(make_errors(errors), layout))
    assert is_due(profile, NOW - timedelta(hours=hours), NOW, LIMITS) is due
