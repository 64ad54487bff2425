"""Two-sample tests on counts that keep their level far in the tail: for merged windows, whose level is shared out finely.

Arrays may have leading axes (windows, scales, simulated years): production and the simulation of its null use the same code.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from scipy.special import kolmogorov, ndtr, xlogy

from eye_disease.profiles.critical_values import SHARES
from eye_disease.profiles.layout import Layout
from eye_disease.profiles.tally import FIXED_POINT, FLAGS, Tally

Statistic = Literal["mean_change", "rank_shift", "ks", "share_change"]
_MANY_BINS = 16
_LEAST = 1e-6
"""Variance of a score that the base shows none of."""


@dataclass(frozen=True)
class Counts:
    """What the tests read of records: float64 arrays (...,) of leading axes; sums add exactly below 2**53."""

    histograms: np.ndarray
    """(..., S, B): of the layout's streams"""
    sums: np.ndarray
    """(..., C): of the probability of each class"""
    flags: np.ndarray
    """(..., 3, 2): SHARES x (false, true)"""

    @classmethod
    def of(cls, tally: Tally, layout: Layout) -> Self:
        """Of one tally of this layout."""
        rows = {name: int(total) / FIXED_POINT for name, total in zip(layout.streams, tally.sums, strict=True)}
        sums = [rows.get(f"prob_{name}", 0.0) for name in layout.classes]
        flags = tally.flags[[FLAGS.index(name) for name in SHARES]]
        return cls(tally.histograms.astype(np.float64), np.array(sums), flags.astype(np.float64))

    @classmethod
    def stack(cls, counts: list[Self]) -> Self:
        """With a new first axis."""
        return cls(*(np.stack([getattr(window, name) for window in counts]) for name in cls.__dataclass_fields__))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.histograms + other.histograms, self.sums + other.sums, self.flags + other.flags)

    def __sub__(self, other: Self) -> Self:
        return type(self)(self.histograms - other.histograms, self.sums - other.sums, self.flags - other.flags)

    def __getitem__(self, index: int | slice | np.ndarray) -> Self:
        """Along the first axis."""
        return type(self)(self.histograms[index], self.sums[index], self.flags[index])

    def joined(self, other: Self) -> Self:
        """One behind the other along the first axis."""
        fields = type(self).__dataclass_fields__
        return type(self)(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in fields))

    def cumulative(self) -> Self:
        """Sums along the first axis, with nothing first: (T, ...) -> (T + 1, ...)."""
        fields = (self.histograms, self.sums, self.flags)
        return type(self)(*(np.concatenate([np.zeros_like(field[:1]), field.cumsum(axis=0)]) for field in fields))


@dataclass(frozen=True)
class Scores:
    """One number of each record, whose mean a test compares."""

    row: int
    """Of the histogram that tells how many records have it; -1: a flag"""
    weights: np.ndarray
    """(B,) or (2,): score of a record by its bin; empty: the probability of class `place` itself"""
    place: int
    """Index of class or flag; of a histogram's score of no use"""
    variance: float

    def of(self, counts: Counts) -> tuple[np.ndarray, np.ndarray]:
        """(sums, how many records), (...,) each."""
        cells = counts.flags[..., self.place, :] if self.row < 0 else counts.histograms[..., self.row, :]
        sums = cells @ self.weights if len(self.weights) else counts.sums[..., self.place]
        return sums, cells.sum(axis=-1)


class ShiftTests:
    """The tests of one layout: K of them, `ks` and a change of place for each numeric stream, a change of each share."""

    def __init__(self, layout: Layout, moments: np.ndarray, base: Counts) -> None:
        """moments: (C, C), mean of p p^T over the reference's answers. base: of the reference."""
        rows = {name: row for row, name in enumerate(layout.streams)}
        classes = {f"prob_{name}": place for place, name in enumerate(layout.classes)}
        self._classes = classes if classes.keys() <= rows.keys() else {}
        self._rows = rows
        self._ranked = [row for name, row in rows.items() if name not in self._classes]
        self._answers = [rows[name] for name in self._classes]
        means = moments.sum(axis=0)
        self._variances = np.maximum(np.diag(moments) - means**2, _LEAST)
        skewness = [_skewness(layout.arrays[name], base.histograms[rows[name]]) for name in self._classes]
        self._low, self._step = two_points(means[: len(skewness)], self._variances[: len(skewness)], np.array(skewness))
        looked_at: dict[Statistic, Iterable[str]] = {
            "mean_change": self._classes,
            "rank_shift": (layout.streams[row] for row in self._ranked),
            "ks": rows,
            "share_change": SHARES,
        }
        self.names = tuple((stream, statistic) for statistic, streams in looked_at.items() for stream in streams)
        """(stream, statistic) of each test"""

    def __call__(self, window: Counts, base: Counts) -> tuple[np.ndarray, np.ndarray]:
        """(values, p-values), (..., K) each; values keep their sign where they have one. No values on a side: 0 and 1."""
        size = len(self._classes)
        n, base_n = (side.histograms[..., self._answers, :].sum(axis=-1) for side in (window, base))
        hits, base_hits = window.flags[..., 1], base.flags[..., 1]
        results = [
            self._mean_changes(window.sums[..., :size], n, base.sums[..., :size], base_n),
            rank_shift(window.histograms[..., self._ranked, :], base.histograms[..., self._ranked, :]),
            _ks(window.histograms, base.histograms),
            mean_change(hits, window.flags.sum(axis=-1), base_hits, base.flags.sum(axis=-1)),
        ]
        values, p_values = zip(*results, strict=True)
        return np.concatenate(values, axis=-1), np.concatenate(p_values, axis=-1)

    def _mean_changes(
        self, sums: np.ndarray, n: np.ndarray, base_sums: np.ndarray, base_n: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of the probabilities, as if each took two values only: with the mean, variance and skewness that it has."""
        hits, base_hits = ((total - count * self._low) / self._step for total, count in ((sums, n), (base_sums, base_n)))
        _, p_values = mean_change(hits, n, base_hits, base_n)
        difference = sums / np.maximum(n, 1) - base_sums / np.maximum(base_n, 1)
        return np.where((n > 0) & (base_n > 0), difference, 0.0), p_values

    def scores(self, test: int, window: Counts, base: Counts) -> Scores:
        """What a test compares the means of: a probability, a rank, which side of the largest gap, a flag. No leading axes."""
        stream, statistic = self.names[test]
        if statistic == "share_change":
            place = SHARES.index(stream)
            weights = np.array([0.0, 1.0])
            return Scores(-1, weights, place, _variance(base.flags[place], weights))
        row = self._rows[stream]
        if statistic == "mean_change":
            place = self._classes[stream]
            return Scores(row, np.empty(0), place, float(self._variances[place]))
        shares = _shares(base.histograms[row])
        if statistic == "rank_shift":
            weights = shares.cumsum() - shares / 2
        else:
            widest = np.abs((_shares(window.histograms[row]) - shares).cumsum()).argmax()
            weights = (np.arange(len(shares)) > widest).astype(np.float64)
        return Scores(row, weights, 0, _variance(base.histograms[row], weights))


def two_points(means: np.ndarray, variances: np.ndarray, skewness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two values, as (lower one, step to the upper one), of variables that have these moments and no other values."""
    upper = (1 - skewness / np.sqrt(4 + skewness**2)) / 2  # its probability
    step = np.sqrt(variances / np.clip(upper * (1 - upper), 1e-9, None))
    return means - step * upper, step


def mean_change(sums: np.ndarray, n: np.ndarray, base_sums: np.ndarray, base_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Difference of two shares, from their counts, and its two-sided p-value by the likelihood ratio.

    Unlike the normal z it keeps its level far in the tail, where a rare class's count is skewed. So it does for the mean of
    probabilities as if each took `two_points`. Of a change of the class mix, the mean of a calibrated probability is the
    locally most powerful statistic.
    """
    safe_n, safe_base = np.maximum(n, 1), np.maximum(base_n, 1)
    p, q = np.clip(sums / safe_n, 0, 1), np.clip(base_sums / safe_base, 0, 1)
    both = (n * p + base_n * q) / np.maximum(n + base_n, 1)
    ratio = 2 * (n * _relative_entropy(p, both) + base_n * _relative_entropy(q, both))
    known = (n > 0) & (base_n > 0)
    return np.where(known, p - q, 0.0), np.where(known, 2 * ndtr(-np.sqrt(np.clip(ratio, 0, None))), 1.0)


def rank_shift(window: np.ndarray, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(a value of the window is the larger one) - 1/2, ties half, -0.5..0.5, from counts (..., B); and its p-value.

    The rank-sum test with its correction for ties (Mann & Whitney, Ann. Math. Stat. 18, 1947), on bins.
    """
    n, base_n = window.sum(axis=-1), base.sum(axis=-1)
    both = (window + base) / np.maximum(n + base_n, 1)[..., None]
    ridits = both.cumsum(axis=-1) - both / 2
    p, q = window / np.maximum(n, 1)[..., None], base / np.maximum(base_n, 1)[..., None]
    value = ((p - q) * ridits).sum(axis=-1)
    variance = np.clip((both * ridits**2).sum(axis=-1) - 0.25, 0, None)
    known = (n > 0) & (base_n > 0) & (variance > 0)
    error = np.sqrt(np.where(known, variance, 1.0) * (1 / np.maximum(n, 1) + 1 / np.maximum(base_n, 1)))
    return np.where(known, value, 0.0), np.where(known, 2 * ndtr(-np.abs(value) / error), 1.0)


def _ks(window: np.ndarray, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest difference of the distribution functions, and its asymptotic p-value (Smirnov 1948) for a maximum over bins.

    Between the edges the difference may be larger: by 0.5826 of its deviation across a bin (Siegmund, Sequential Analysis,
    1985, ch. 10). Taken into account where the bins are many and about even, else the p-value is too large.
    """
    n, base_n = window.sum(axis=-1), base.sum(axis=-1)
    known = (n > 0) & (base_n > 0)
    gap = window.cumsum(axis=-1) / np.maximum(n, 1)[..., None] - base.cumsum(axis=-1) / np.maximum(base_n, 1)[..., None]
    value = np.where(known, np.abs(gap).max(axis=-1), 0.0)
    both = (window + base) / np.maximum(n + base_n, 1)[..., None]
    used = (both > 0).sum(axis=-1)
    even = (used >= _MANY_BINS) & (both.max(axis=-1) * used <= 2)
    between = np.where(even, 0.5826 / np.sqrt(np.maximum(used, 1)), 0.0)
    return value, np.where(known, kolmogorov(value * np.sqrt(n * base_n / np.maximum(n + base_n, 1)) + between), 1.0)


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Of two yes-or-no shares, in nats; q in 0..1 is no end unless p is the same one."""
    q = np.clip(q, 1e-12, 1 - 1e-12)
    return xlogy(p, p / q) + xlogy(1 - p, (1 - p) / (1 - q))


def _shares(counts: np.ndarray) -> np.ndarray:
    return counts / max(float(counts.sum()), 1.0)


def _skewness(edges: np.ndarray, counts: np.ndarray) -> float:
    """Of the values behind a histogram, each at the middle of its bin; those beyond the ends at the ends."""
    values = np.concatenate([edges[:1], (edges[1:] + edges[:-1]) / 2, edges[-1:]])
    shares = _shares(counts[: len(values)])
    centred = values - (shares * values).sum()
    return float((shares * centred**3).sum() / max(float((shares * centred**2).sum()), _LEAST) ** 1.5)


def _variance(counts: np.ndarray, weights: np.ndarray) -> float:
    shares = _shares(counts)
    return max(float((shares * (weights - (shares * weights).sum()) ** 2).sum()), _LEAST)
