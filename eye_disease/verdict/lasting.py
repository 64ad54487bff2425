"""Drift too weak for one window: the newest 1, 2, 3, 4, ... 64 windows merged, and since when.

Each scale is compared with the reference, and with the reference and the older windows together: these are more than the
reference alone, so that a change shows earlier. What the older windows have had for long is still seen by the first comparison.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Self

import numpy as np
from scipy.special import ndtri

from eye_disease.profiles.count_tests import Counts, ShiftTests
from eye_disease.profiles.layout import Layout
from eye_disease.profiles.reference import Reference
from eye_disease.profiles.tally import Tally
from eye_disease.verdict.check import Check
from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.since import Series, Since, Split, split

SCALES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 64)
"""Newest windows that are merged: the powers of two and two more between any two, so that a drift of any age fills a scale of
about four fifths of its windows."""
MAX_WINDOWS = 96
"""Windows that are remembered: those of the largest scale, and some before them to compare with."""
LEVEL = 1e-6
"""Of each scale beyond one window: chance that any stream is found. What comes of it in ten years:
benchmarks/drift_run_length.py."""
ALONE = 0.2
"""Of `limits.alpha`, for the newest window alone: two of those in a row are as rare as one of the others."""
_SHARES_ALONE = {"mean_change": 0.2, "ks": 0.6, "rank_shift": 0.1, "share_change": 0.1}
_SHARES = {"mean_change": 0.8, "ks": 0.1, "rank_shift": 0.05, "share_change": 0.05}
"""Of the level, by statistic. One window shows changes of the photos; a weak change that lasts is one of the class mix, or its
probabilities tell most of it (Rabanser et al., NeurIPS 2019)."""
_AGREES = 1e-3
"""p-value against the reference alone that must come with a finding against reference and older windows."""
_COMPARISONS = 2
_ANY = 1e-6
"""A change that matters where any does: a limit of 0, a class that the reference never expects"""
_RARE = 0.1
"""Share of a class below which what matters is a part of it"""
_SHOWN = 5
"""Findings of a scale that are listed, the clearest ones"""
_TELLS = 0.5
"""Share of its limit that a test on a single window must show to tell when it has begun"""


@dataclass(frozen=True)
class RecentWindow:
    """A judged window, as far as it is needed to judge it together with others."""

    number: int
    tally: Tally
    """Of all its records, on the reference's layout"""


@dataclass(frozen=True)
class Recent:
    """What is known of the windows before the one to be judged."""

    windows: tuple[RecentWindow, ...] = ()
    """The newest last"""
    since: Since | None = None
    """Of the drift that the last one shows, alone or together with others"""


@dataclass(frozen=True)
class Lasting:
    """What the newest windows say together."""

    checks: tuple[Check, ...] = ()
    """What is found at the scale that shows most; where there is nothing, what comes nearest to it"""
    merged: Tally | None = None
    """The windows of that scale; None: nothing is found"""
    since: Since | None = None


@dataclass(frozen=True)
class Comparison:
    """Of merged windows, (..., K) each: K tests."""

    values: np.ndarray
    """Against the reference alone, with their sign"""
    clearness: np.ndarray
    """Times its limit: above 1 a change is significant, by its normal deviate, and large enough to matter"""
    factor: np.ndarray
    """(...,): by what the level would have to be multiplied for any finding; infinite if no change is large enough"""


class LastingDrift:
    """Judges windows merged against one reference."""

    def __init__(self, reference: Reference, limits: DriftLimits) -> None:
        self._layout, self._least = reference.layout, limits.min_predictions
        self._base = Counts.of(reference.profile.whole, reference.layout)
        self._tests = ShiftTests(reference.layout, reference.parts.moments, self._base)
        self._floors = _floors(self._tests, self._base, reference.layout.classes, limits)
        self._levels = np.array([_levels(self._tests, m, limits) for m in SCALES])

    def compare(self, merged: Counts, older: Counts, scale: int | np.ndarray) -> Comparison:
        """merged: the newest windows. older: the kept ones before them, if any. scale: which of SCALES they are, (...,)."""
        values, alone = self._tests(merged, self._base)
        others, together = self._tests(merged, older + self._base)
        agrees = (alone <= _AGREES) & (np.sign(values) == np.sign(others))
        p_values = np.where(agrees, np.minimum(alone, together), alone)
        large = np.abs(values) > self._floors
        levels = self._levels[scale]
        clearness = np.minimum(np.abs(values) / self._floors, _deviate(p_values) / _deviate(levels))
        return Comparison(values, clearness, np.where(large, p_values / levels, np.inf).min(axis=-1))

    def judge(self, windows: Sequence[RecentWindow]) -> Lasting:
        """windows: the newest last, which is the one to be judged; MAX_WINDOWS of them are looked at."""
        seen = _Seen.of(windows[-MAX_WINDOWS:], self._layout)
        scales = seen.scales(self._least)
        if not scales:
            return Lasting()
        compared = self.compare(*seen.parted(np.array(scales)), np.array([SCALES.index(m) for m in scales]))
        findings = [finding for row, m in enumerate(scales) for finding in self._findings(seen, compared.clearness[row], m)]
        if not findings:
            row, test = np.unravel_index(compared.clearness.argmax(), compared.clearness.shape)
            return Lasting(
                (self._check(seen, compared.values[row], _Finding(compared.clearness[row, test], scales[row], int(test))),)
            )
        best = max(findings, key=lambda finding: finding.clearness)
        values = compared.values[scales.index(best.windows)]
        checks = tuple(self._check(seen, values, finding) for finding in findings if finding.windows == best.windows)
        return Lasting(checks, reduce(add, (window.tally for window in seen.windows[-best.windows :])), seen.since(best.begun))

    def since(self, windows: Sequence[RecentWindow]) -> Since | None:
        """Since when what the newest window shows by itself lasts; None where no test on it tells."""
        seen = _Seen.of(windows[-MAX_WINDOWS:], self._layout)
        clearness = self.compare(*seen.parted(1), 0).clearness
        best = int(clearness.argmax())
        return seen.since(self._begun(seen, best, 1)) if clearness[best] > _TELLS else None

    def _findings(self, seen: "_Seen", clearness: np.ndarray, m: int) -> list["_Finding"]:
        """The clearest of the newest m windows, those left out that are over."""
        clear = [int(i) for i in np.argsort(-clearness, kind="stable")[:_SHOWN] if clearness[i] > 1]
        return [_Finding(float(clearness[i]), m, i, begun) for i in clear if (begun := self._begun(seen, i, m)) is not None]

    def _begun(self, seen: "_Seen", test: int, m: int) -> Split | None:
        """With which window what a test has found at a scale has begun; None if it is over."""
        merged, _ = seen.parted(m)
        scores = self._tests.scores(test, merged, self._base)
        (sums, n), (base_sum, base_n) = scores.of(seen.counts), scores.of(self._base)
        newest, newest_n = scores.of(merged)
        gap = newest / max(newest_n, 1) - base_sum / max(base_n, 1)
        return split(Series(sums, n, float(base_sum), float(base_n), scores.variance, float(np.sign(gap))))

    def _check(self, seen: "_Seen", values: np.ndarray, finding: "_Finding") -> Check:
        """values: (K,), of the finding's scale."""
        stream, statistic = self._tests.names[finding.test]
        value, clearness = abs(float(values[finding.test])), float(finding.clearness)
        together = f"the newest {finding.windows} windows together" if finding.windows > 1 else ""
        return Check(
            source="lasting",
            stream=stream,
            statistic=statistic,
            value=value,
            limit=value / clearness if clearness else float(self._floors[finding.test]),
            n=seen.answered(finding.windows),
            beyond=finding.begun is not None,
            problem=", ".join(filter(None, [together, "over by now" if finding.begun is None and clearness > 1 else ""])),
            windows=finding.windows,
            level="drift" if finding.begun is not None else "ok",
        )


@dataclass(frozen=True)
class _Finding:
    """What a test shows at a scale."""

    clearness: float
    windows: int
    test: int
    begun: Split | None = None
    """None: it is no drift, or not any more"""


@dataclass(frozen=True)
class _Seen:
    """Windows, their counts (L, ...) and the sums of these (L + 1, ...)."""

    windows: Sequence[RecentWindow]
    counts: Counts
    sums: Counts

    @classmethod
    def of(cls, windows: Sequence[RecentWindow], layout: Layout) -> Self:
        """windows: one or more."""
        counts = Counts.stack([Counts.of(window.tally, layout) for window in windows])
        return cls(windows, counts, counts.cumulative())

    def parted(self, m: int | np.ndarray) -> tuple[Counts, Counts]:
        """The newest m windows merged, and those before them; with a first axis for an array of m."""
        older = self.sums[len(self.windows) - m]
        return self.sums[len(self.windows)] - older, older

    def since(self, begun: Split | None) -> Since | None:
        """The times of these windows; None where there are none."""
        if begun is None:
            return None
        best, earliest, latest = (self.windows[i] for i in begun)
        if best.tally.first is None or earliest.tally.first is None or latest.tally.first is None:
            return None
        return Since(
            number=best.number,
            start=best.tally.first,
            first_number=earliest.number,
            last_number=latest.number,
            earliest=earliest.tally.first,
            latest=latest.tally.first,
            open=begun[1] == 0 and earliest.number > 1,
        )

    def answered(self, m: int) -> int:
        """Answers in the newest m windows."""
        return sum(window.tally.answered for window in self.windows[-m:])

    def scales(self, least: int) -> list[int]:
        """Those that there are windows for, with `least` answers or more."""
        return [m for m in SCALES if m <= len(self.windows) and self.answered(m) >= least]


def _floors(tests: ShiftTests, base: Counts, classes: Sequence[str], limits: DriftLimits) -> np.ndarray:
    """(K,): smallest change of each test that matters.

    Of a class: DRIFT_MIN_SHARE_CHANGE of all photos; of one rarer than one in ten the same part of its share, by default half.
    Of a rank: what goes with DRIFT_MIN_KS where a normal distribution moves.
    """
    answers = max(float(base.histograms.sum(axis=-1).max(initial=0)), 1.0)
    shares = {f"prob_{name}": float(total) / answers for name, total in zip(classes, base.sums, strict=True)}
    least = {"ks": limits.min_ks, "rank_shift": limits.min_ks / np.sqrt(2), "share_change": limits.min_share_change}
    floors = [
        least[kind] if kind in least else limits.min_share_change * min(1, shares[name] / _RARE) for name, kind in tests.names
    ]
    return np.maximum(floors, _ANY)


def _levels(tests: ShiftTests, scale: int, limits: DriftLimits) -> np.ndarray:
    """(K,): level of each test at a scale, Bonferroni within."""
    level, shares = (limits.alpha * ALONE, _SHARES_ALONE) if scale == 1 else (LEVEL, _SHARES)
    kinds = [kind for _, kind in tests.names]
    return np.array([level * shares[kind] / kinds.count(kind) / _COMPARISONS for kind in kinds])


def _deviate(p_values: np.ndarray) -> np.ndarray:
    """Standard normal deviate of two-sided p-values."""
    return np.asarray(-ndtri(np.clip(p_values, 1e-300, 1) / 2))
