"""Shares with their intervals, and how far confidence is from accuracy."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

BINS = 15
"""Of equal width, for reliability and calibration error."""


@dataclass(frozen=True)
class Share:
    """Hits among n photos, with the 95 % interval (Wilson, JASA 22, 1927), all 0..1."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, hits: np.ndarray) -> "Share":
        """The share of true values in bool (n,), n > 0."""
        found = binomtest(int(hits.sum()), len(hits))
        interval = found.proportion_ci(0.95, method="wilson")
        return cls(float(found.statistic), float(interval.low), float(interval.high), len(hits))


def reliability(confidence: np.ndarray, right: np.ndarray) -> list[tuple[float, float, int]]:
    """(mean confidence, accuracy, photos) of each bin that has photos; float (n,) in 0..1 and bool (n,)."""
    index = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        (float(confidence[index == b].mean()), float(right[index == b].mean()), int((index == b).sum()))
        for b in np.unique(index)
    ]


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error of confidences, float (n,), and of whether each answer was right, bool (n,), n > 0.

    Naeini et al., AAAI 2015.
    """
    gaps = (abs(sure - accuracy) * photos for sure, accuracy, photos in reliability(confidence, right))
    return float(sum(gaps) / len(right))
