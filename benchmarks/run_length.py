"""Windows without drift, in their thousands, as counts: what the run length of an alarm is measured on."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from eye_disease.monitoring.alarm import AlarmState
from eye_disease.profiles.columns import column, numbers
from eye_disease.profiles.count_tests import Counts
from eye_disease.profiles.critical_values import SHARES
from eye_disease.profiles.layout import Layout
from eye_disease.verdict.lasting import MAX_WINDOWS, SCALES, LastingDrift
from eye_disease.verdict.limits import DriftLimits

YEARS = 10
WINDOWS_A_YEAR = 24 * 365
_CHUNK = 500


@dataclass(frozen=True)
class CountedRecords:
    """Records that windows are drawn from, each as the row of ones that it adds to the counts of its window."""

    rows: np.ndarray
    """float32 (N, S * B + C + 6)"""
    streams: int
    bins: int
    classes: int

    @classmethod
    def of(cls, records: pa.Table, layout: Layout) -> "CountedRecords":
        """Of answered records."""
        places = np.zeros((len(records), len(layout.streams), layout.bins), np.float32)
        for i, name in enumerate(layout.streams):
            values = numbers(records, name)
            known = np.isfinite(values)
            places[known, i, np.searchsorted(layout.arrays[name], values[known], side="right")] = 1
        probabilities = np.column_stack([numbers(records, f"prob_{name}") for name in layout.classes])
        flags = np.zeros((len(records), len(SHARES), 2), np.float32)
        for i, name in enumerate(SHARES):
            values = column(records, name, pa.bool_()).cast(pa.int8()).fill_null(-1).to_numpy(zero_copy_only=False)
            flags[values == 0, i, 0] = flags[values == 1, i, 1] = 1
        rows = np.hstack([places.reshape(len(records), -1), probabilities, flags.reshape(len(records), -1)])
        return cls(rows.astype(np.float32), len(layout.streams), layout.bins, len(layout.classes))

    def windows(self, rng: np.random.Generator, n: int, count: int, weights: np.ndarray | None = None) -> Counts:
        """`count` windows of n records each, drawn with replacement; weights: how often each record is, (N,)."""
        drawn = np.zeros((count, len(self.rows)), np.float32)
        shares = None if weights is None else weights / weights.sum()
        np.add.at(drawn, (np.arange(count)[:, None], rng.choice(len(self.rows), (count, n), p=shares)), 1)
        return self._counts((drawn @ self.rows).astype(np.float64))

    def whole(self) -> Counts:
        """Of all records."""
        return self._counts(self.rows.sum(axis=0, dtype=np.float64)[None])[0]

    def _counts(self, found: np.ndarray) -> Counts:
        count = len(found)
        ends = np.cumsum([self.streams * self.bins, self.classes])
        histograms, sums, flags = np.split(found, ends, axis=1)
        shape = (count, self.streams, self.bins)
        return Counts(histograms.reshape(shape), sums, flags.reshape(count, len(SHARES), 2))


def factors_without_drift(
    population: CountedRecords, judge: LastingDrift, n: int, count: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """For each of `count` windows in a row and each scale, by what its level is missed: chunks, (T, scales)."""
    before: Counts | None = None
    for start in range(0, count, _CHUNK):
        new = population.windows(rng, n, min(_CHUNK, count - start))
        kept = new if before is None else before.joined(new)
        yield factors(judge, kept, len(kept.sums) - len(new.sums))
        before = kept[max(len(kept.sums) - MAX_WINDOWS, 0) :]


def factors(judge: LastingDrift, windows: Counts, first: int) -> np.ndarray:
    """For the windows from index `first` on, by what each scale's level had to be multiplied to find drift, (T, scales)."""
    sums, ends = windows.cumulative(), np.arange(first, len(windows.sums)) + 1
    found = np.full((len(ends), len(SCALES)), np.inf)
    for i, m in enumerate(SCALES):
        full = ends[ends >= m]
        oldest = np.maximum(full - MAX_WINDOWS, 0)
        compared = judge.compare(sums[full] - sums[full - m], sums[full - m] - sums[oldest], i)
        found[len(ends) - len(full) :, i] = compared.factor
    return found


def alarms(drift: np.ndarray, limits: DriftLimits) -> int:
    """How often these verdicts, bool (T,), raise an alarm."""
    state, raised = AlarmState(), 0
    for bad in drift.tolist():
        state, event = state.after("drift" if bad else "ok", limits)
        raised += event == "raise"
    return raised
