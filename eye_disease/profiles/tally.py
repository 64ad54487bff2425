"""Counts and sums over records: of fixed size, and exact in whatever order they are added."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eye_disease.profiles.columns import Records, column, counts, numbers, time_range
from eye_disease.profiles.layout import LATENCY_EDGES, Layout

FLAGS = ("low_confidence", "gradable", "out_of_distribution", "unfamiliar_camera")
FIXED_POINT = 2**20
"""Sums are whole multiples of 1 / FIXED_POINT: adding floats would depend on their order."""
UNKNOWN_CLASS = "unknown_class"
"""Error code of an answer whose class the model does not have."""
_LARGEST = 2.0**26


@dataclass(frozen=True)
class Tally:
    """C classes, S streams, B bins of a Layout; arrays of Python integers where sums could exceed 64 bits."""

    classes: np.ndarray
    """int64 (C,): answers by predicted class"""
    class_confidence: np.ndarray
    """object (C,): fixed-point sum of the confidence by predicted class"""
    confidence_squares: int
    """fixed-point sum of the squared confidence"""
    flags: np.ndarray
    """int64 (4, 2): FLAGS x (false, true)"""
    histograms: np.ndarray
    """int64 (S, B)"""
    sums: np.ndarray
    """object (S,): fixed-point"""
    latency: np.ndarray
    """int64 (len(LATENCY_EDGES) + 1,): answers by `inference_time_ms`"""
    latency_sum: int
    """fixed-point, ms"""
    decisions: Mapping[str, int]
    errors: Mapping[str, int]
    """Error code -> records; they count nowhere else."""
    first: datetime | None
    last: datetime | None

    @classmethod
    def empty(cls, layout: Layout) -> Self:
        """Of no records."""
        size, streams = len(layout.classes), len(layout.streams)
        return cls(
            classes=np.zeros(size, np.int64),
            class_confidence=np.zeros(size, object),
            confidence_squares=0,
            flags=np.zeros((len(FLAGS), 2), np.int64),
            histograms=np.zeros((streams, layout.bins), np.int64),
            sums=np.zeros(streams, object),
            latency=np.zeros(len(LATENCY_EDGES) + 1, np.int64),
            latency_sum=0,
            decisions={},
            errors={},
            first=None,
            last=None,
        )

    @classmethod
    def of(cls, records: Records, layout: Layout) -> Self:
        """Of at most 65,536 records (the fixed-point sums of one call fit 64 bits)."""
        codes = column(records, "error_code", pa.string())
        predicted = column(records, "predicted_class", pa.string())
        index = pc.index_in(predicted, value_set=pa.array(layout.classes, pa.string()))
        good = pc.and_(codes.is_null(), index.is_valid())
        strange = pc.and_(codes.is_null(), pc.invert(good))
        answers = records if good.false_count == 0 else records.filter(good)
        index = index.filter(good).to_numpy()
        confidence = _clean(numbers(answers, "confidence"))
        milliseconds = numbers(answers, "inference_time_ms")
        binned = [_histogram(numbers(answers, name), layout.arrays[name], layout.bins) for name in layout.streams]
        first, last = time_range(records)
        return cls(
            classes=np.bincount(index, minlength=len(layout.classes)),
            class_confidence=np.array([_fixed_sum(confidence[index == i]) for i in range(len(layout.classes))], object),
            confidence_squares=_fixed_sum(confidence**2),
            flags=np.array([_flag(answers, name) for name in FLAGS]),
            histograms=np.array([histogram for histogram, _ in binned], np.int64).reshape(len(binned), layout.bins),
            sums=np.array([total for _, total in binned], object),
            latency=_histogram(milliseconds, LATENCY_EDGES, len(LATENCY_EDGES) + 1)[0],
            latency_sum=_fixed_sum(_clean(milliseconds)),
            decisions=counts(column(answers, "decision", pa.string())),
            errors=_added(counts(codes), {UNKNOWN_CLASS: n} if (n := pc.sum(strange).as_py()) else {}),
            first=first,
            last=last,
        )

    def __add__(self, other: Self) -> Self:
        joined: dict[str, Any] = {}
        for name, mine in vars(self).items():
            theirs = getattr(other, name)
            joined[name] = _added(mine, theirs) if isinstance(mine, Mapping) else None if name in _TIMES else mine + theirs
        for name, pick in _TIMES.items():
            joined[name] = pick((t for t in (getattr(self, name), getattr(other, name)) if t is not None), default=None)
        return type(self)(**joined)

    @property
    def answered(self) -> int:
        """Records with an answer."""
        return int(self.classes.sum())

    @property
    def failed(self) -> int:
        """Records with an error."""
        return sum(self.errors.values())

    @property
    def mean_confidence(self) -> float | None:
        """0..1; None without answers."""
        return int(self.class_confidence.sum()) / FIXED_POINT / self.answered if self.answered else None

    @property
    def mean_latency_ms(self) -> float | None:
        """None without answers."""
        timed = int(self.latency.sum())
        return self.latency_sum / FIXED_POINT / timed if timed else None

    def means(self, layout: Layout) -> dict[str, float]:
        """Stream -> mean, for streams that have values."""
        totals = self.histograms.sum(axis=1)
        return {
            name: int(total) / FIXED_POINT / int(n)
            for name, total, n in zip(layout.streams, self.sums, totals, strict=True)
            if n
        }

    def flag(self, name: str) -> tuple[int, int]:
        """How many answers have the flag true, and how many have it at all."""
        false, true = self.flags[FLAGS.index(name)].tolist()
        return true, false + true

    def latency_quantile(self, q: float) -> float | None:
        """Milliseconds, within the 12 % of a bin; None without answers."""
        cumulative = self.latency.cumsum()
        if not cumulative[-1]:
            return None
        index = int(np.searchsorted(cumulative, q * cumulative[-1]))
        low, high = LATENCY_EDGES[max(index - 1, 0)], LATENCY_EDGES[min(index, len(LATENCY_EDGES) - 1)]
        return float(np.sqrt(low * high))

    def to_json(self) -> dict[str, Any]:
        """As JSON types; histograms without their empty last bins."""
        stored = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}
        stored["histograms"] = [_trimmed(row) for row in self.histograms]
        stored["latency"] = _trimmed(self.latency)
        return stored | {name: t and t.isoformat() for name in _TIMES if (t := getattr(self, name)) or True}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], layout: Layout) -> Self:
        """The inverse of `to_json`."""
        empty = cls.empty(layout)
        values = dict(stored)
        for name, blank in vars(empty).items():
            if isinstance(blank, np.ndarray):
                values[name] = np.array(stored[name], blank.dtype) if name not in ("histograms", "latency") else blank.copy()
        for row, filled in zip(values["histograms"], stored["histograms"], strict=True):
            row[: len(filled)] = filled
        values["latency"][: len(stored["latency"])] = stored["latency"]
        for name in _TIMES:
            values[name] = stored[name] and datetime.fromisoformat(stored[name])
        return cls(**values)


_TIMES = {"first": min, "last": max}


def _clean(values: np.ndarray) -> np.ndarray:
    """Null, NaN and infinity as 0, which adds nothing to a sum."""
    return np.where(np.isfinite(values), values, 0.0)


def _fixed_sum(values: np.ndarray) -> int:
    scaled = np.clip(values, -_LARGEST, _LARGEST)
    scaled *= FIXED_POINT
    return int(np.rint(scaled, out=scaled).astype(np.int64).sum())


def _histogram(values: np.ndarray, edges: np.ndarray, bins: int) -> tuple[np.ndarray, int]:
    """Counts, int64 (bins,), and fixed-point sum of the finite values."""
    finite = np.isfinite(values)
    if not finite.all():
        values = values[finite]
    # Sorting all values is several times faster than looking up the bin of each.
    below = np.searchsorted(np.sort(values), edges, side="left")
    histogram = np.zeros(bins, np.int64)
    histogram[: len(edges)] = below
    histogram[len(edges)] = len(values)
    histogram[1 : len(edges) + 1] -= below
    return histogram, _fixed_sum(values)


def _flag(records: Records, name: str) -> tuple[int, int]:
    known = column(records, name, pa.bool_()).drop_null()
    true = known.true_count
    return len(known) - true, true


def _added(mine: Mapping[str, int], theirs: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted((Counter(mine) + Counter(theirs)).items()))


def _trimmed(histogram: np.ndarray) -> list[int]:
    return list(np.trim_zeros(histogram, "b").tolist())
