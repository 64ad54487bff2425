"""Weak drift that lasts: in how many trials it is found within ten windows, and whether its date is right."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from scipy.stats import binomtest, norm

from benchmarks.drift_windows import Population
from benchmarks.figures import table
from eye_disease.profiles.columns import numbers
from eye_disease.profiles.label_shift import ClassParts
from eye_disease.profiles.layout import Layout
from eye_disease.profiles.profile import Profile
from eye_disease.profiles.reference import Reference
from eye_disease.verdict.lasting import LEVEL, LastingDrift, RecentWindow
from eye_disease.verdict.limits import DriftLimits

N, BEFORE, WITHIN = 100, 64, 10
"""Answers in a window; windows before the drift begins; windows in which it has to be found."""
NEAR = 2
"""Windows by which a date may be wrong"""
_START = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Trial:
    """One drift."""

    found: int | None
    """In which of its windows, from 1 on; None: in none"""
    alarm: int | None
    """The same of the alarm, which takes two in a row"""
    off: int
    """Windows by which the date that came with the finding is wrong"""
    held: bool
    """Whether the date's interval has the truth in it"""


def lasting_trials(
    usual: pa.Table, changed: Sequence[Population], classes: tuple[str, ...], trials: int, seed: int
) -> dict[str, list[Trial]]:
    """Case -> trials; each has a reference of its own, of as many answers as there are usual ones."""
    found: dict[str, list[Trial]] = {}
    for i in range(trials):
        rng = np.random.default_rng(seed + i)
        reference = drawn_reference(usual, classes, len(usual), rng)
        judge = LastingDrift(reference, DriftLimits())
        quiet = [_window(reference, usual, None, number, rng) for number in range(1, BEFORE + 1)]
        for case in changed:
            new = [_window(reference, case.records, case.weights, BEFORE + k, rng) for k in range(1, WITHIN + 1)]
            found.setdefault(case.case, []).append(_tried(judge, quiet, new))
    return found


def drawn_reference(records: pa.Table, classes: tuple[str, ...], n: int, rng: np.random.Generator) -> Reference:
    """A reference of n drawn answers, without the critical values of single windows, which take most of its time."""
    taken = records.take(pa.array(rng.integers(0, len(records), n)))
    layout = Layout.fit(taken, classes)
    probabilities = np.column_stack([numbers(taken, f"prob_{name}") for name in classes])
    parts = ClassParts({}, probabilities.T @ probabilities / n)
    return Reference("drawn", "benchmark", None, "", Profile.from_table(taken, layout), parts, {})


def _window(
    reference: Reference, records: pa.Table, weights: np.ndarray | None, number: int, rng: np.random.Generator
) -> RecentWindow:
    drawn = records.take(pa.array(rng.choice(len(records), N, p=weights)))
    start = _START + timedelta(hours=number)
    whole = Profile.from_table(drawn, reference.layout).whole
    return RecentWindow(number, replace(whole, first=start, last=start + timedelta(minutes=59)))


def _tried(judge: LastingDrift, quiet: list[RecentWindow], new: list[RecentWindow]) -> Trial:
    said = [judge.judge([*quiet, *new[: k + 1]]) for k in range(len(new))]
    bad = [one.merged is not None for one in said]
    first = next((k for k, one in enumerate(bad) if one), None)
    twice = next((k for k in range(1, len(bad)) if bad[k - 1] and bad[k]), None)
    since = said[first].since if first is not None else None
    off, held = 0, False
    if since is not None:
        off, held = since.number - (BEFORE + 1), since.first_number <= BEFORE + 1 <= since.last_number
    return Trial(None if first is None else first + 1, None if twice is None else twice + 1, off, held)


def lasting_table(found: dict[str, list[Trial]], labels: np.ndarray) -> str:
    """Markdown. labels: of the usual photos, for what somebody who knew every true class could find."""
    rows = []
    for case, trials in found.items():
        seen = [one for one in trials if one.found is not None]
        right = sum(abs(one.off) <= NEAR for one in seen)
        rows.append(
            (
                case,
                _share(len(seen), len(trials)),
                _share(sum(one.alarm is not None for one in trials), len(trials)),
                f"{np.median([one.found for one in seen if one.found]):.0f}" if seen else "",
                _share(right, len(seen)),
                _share(sum(one.held for one in seen), len(seen)),
                _with_true_classes(case, labels),
            )
        )
    head = (
        "drift that begins",
        f"found within {WITHIN} windows of {N}",
        "alarm by then (two in a row)",
        "median window",
        f"date right within {NEAR}",
        "in its interval",
        "with the true classes known",
    )
    return table(head, rows)


def _share(hits: int, n: int) -> str:
    if n == 0:
        return ""
    low, high = binomtest(hits, n).proportion_ci(0.95)
    return f"{hits / n:.0%} ({low:.0%}..{high:.0%})"


def _with_true_classes(case: str, labels: np.ndarray) -> str:
    """Power of the best test of one class's share after WITHIN windows, at the level of all our scales, from its true count."""
    if not case.startswith("class mix: "):
        return ""
    name, factor = case.removeprefix("class mix: ").split(" x ")
    before = float((labels == name).mean())
    after = before * float(factor) / (1 + before * (float(factor) - 1))
    n, base = N * WITHIN, len(labels) + N * (BEFORE - WITHIN)
    pooled = (n * after + base * before) / (n + base)
    deviate = (after - before) / np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / base))
    return f"{norm.sf(norm.isf(LEVEL / 2) - deviate):.0%}"
