"""Tells a change of the class mix (label shift) from a change of the photos, without labels.

Under label shift p(x | y) stays and only p(y) changes, so the window must look like the reference with its classes reweighted.
The weights come from the mean answers (black-box shift estimation, Lipton et al., ICML 2018, in its soft form: Garg et al.,
NeurIPS 2020); what remains different after that is acquisition shift (Roschewitz et al., arXiv 2411.07940).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.optimize import nnls

_SUM_WEIGHT = 100.0


@dataclass(frozen=True)
class ClassParts:
    """The reference taken apart by class, each record belonging to every class by its calibrated probability."""

    counts: Mapping[str, np.ndarray]
    """Stream -> float64 (C, K): share of the records by class and bin or category"""
    moments: np.ndarray
    """float64 (C, C): mean of p p^T over the records"""

    @classmethod
    def of(cls, probabilities: np.ndarray, codes: Mapping[str, np.ndarray], widths: Mapping[str, int]) -> Self:
        """probabilities (N, C); codes: stream -> int (N,), -1 where a record has no value; widths: stream -> K."""
        n, size = probabilities.shape
        counts = {}
        for name, index in codes.items():
            known = index >= 0
            counts[name] = np.stack([np.bincount(index[known], probabilities[known, k], widths[name]) / n for k in range(size)])
        return cls(counts, probabilities.T @ probabilities / n)

    def weights(self, mean_probabilities: np.ndarray) -> np.ndarray:
        """Window share over reference share of each class, (C,), at least 0, from a window's mean answer, (C,)."""
        shares = self.moments.sum(axis=0)
        system = np.vstack([self.moments, _SUM_WEIGHT * shares])  # the last row: the window's shares sum to 1
        return nnls(system, np.append(mean_probabilities, _SUM_WEIGHT))[0]

    def reweighted(self, weights: np.ndarray) -> tuple[dict[str, np.ndarray], float]:
        """Counts (K,) of each stream with the classes reweighted, and the effective size as a share of the real one.

        The effective size of weighted records is (sum v)^2 / sum v^2 (Kish, Survey Sampling, 1965).
        """
        total = float(self.moments.sum(axis=0) @ weights)
        counts = {name: weights @ by_class for name, by_class in self.counts.items()}
        return counts, total**2 / float(weights @ self.moments @ weights)

    def to_json(self) -> dict[str, Any]:
        """As JSON types, to six digits."""
        counts = {name: np.round(array, 6).tolist() for name, array in self.counts.items()}
        return {"counts": counts, "moments": self.moments.tolist()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        counts = {name: np.array(array, np.float64) for name, array in stored["counts"].items()}
        return cls(counts, np.array(stored["moments"], np.float64))
