"""Which numeric streams a profile counts, and into which bins."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa

from eye_disease.profiles.columns import numbers
from model_code.embedding import LOGGED_COMPONENTS
from model_code.quality import STATISTICS

EMBEDDING = tuple(f"embedding_{i}" for i in range(1, LOGGED_COMPONENTS + 1))
QUANTILE_BINS = 32
"""Bins of equal mass in the reference: the KS distance loses at most 1/32 to the binning."""
LATENCY_EDGES = 10.0 ** (np.arange(-20, 117) / 20)
"""Milliseconds, 0.1 ms to 10 min, each 12 % above the one before: no reference, since other machines have other latencies."""

_GENERIC: dict[str, tuple[float, ...]] = {
    "contrast": tuple(np.linspace(0, 128, 33)),
    "sharpness": tuple(np.geomspace(0.1, 10_000, 33)),
    "field_of_view_share": tuple(np.linspace(0, 1, 33)),
    "ood_score": tuple(np.linspace(0, 4, 33)),
}


def stream_names(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Every numeric stream that a record of a model with these classes may have."""
    return ("confidence", *(f"prob_{name}" for name in classes), *STATISTICS, "ood_score", *EMBEDDING)


@dataclass(frozen=True)
class Layout:
    """Classes and bin edges. Profiles merge and compare only if theirs are equal."""

    classes: tuple[str, ...]
    edges: Mapping[str, tuple[float, ...]]
    """Stream -> ascending edges; a value equal to an edge lies above it, values beyond the ends have bins of their own."""

    @classmethod
    def fit(cls, records: pa.Table, classes: tuple[str, ...]) -> Self:
        """Edges at the quantiles of answered records; a stream without values is left out."""
        edges = {}
        for name in stream_names(classes):
            values = numbers(records, name)
            values = values[np.isfinite(values)]
            if len(values):
                edges[name] = _quantile_edges(values)
        return cls(tuple(classes), edges)

    @classmethod
    def generic(cls, classes: tuple[str, ...]) -> Self:
        """For a model without a reference: equal bins over what the values may be. The embedding's range is not known."""
        edges = {}
        for name in stream_names(classes):
            if name not in EMBEDDING:
                top = 1 if name == "confidence" or name.startswith("prob_") else 255
                edges[name] = _GENERIC.get(name, tuple(np.linspace(0, top, 33)))
        return cls(tuple(classes), {name: tuple(map(float, values)) for name, values in edges.items()})

    @cached_property
    def streams(self) -> tuple[str, ...]:
        """Names of the numeric streams; their order is that of a tally's rows."""
        return tuple(self.edges)

    @cached_property
    def bins(self) -> int:
        """Columns of a tally's histograms; a stream with fewer edges leaves the last ones empty."""
        return 1 + max((len(edges) for edges in self.edges.values()), default=0)

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Stream -> edges, float64 (E,)."""
        return {name: np.asarray(edges, np.float64) for name, edges in self.edges.items()}

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {"classes": list(self.classes), "edges": {name: list(edges) for name, edges in self.edges.items()}}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(tuple(stored["classes"]), {name: tuple(edges) for name, edges in stored["edges"].items()})


def _quantile_edges(values: np.ndarray) -> tuple[float, ...]:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, QUANTILE_BINS + 1)))
    # Just above the largest value, so that it lies below the last edge: only what the reference never showed lies beyond.
    edges[-1] = np.nextafter(edges[-1], np.inf)
    if len(edges) == 1:  # a constant: below, equal, above
        edges = np.array([values[0], edges[0]])
    return tuple(edges.tolist())
