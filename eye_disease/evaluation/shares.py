"""Shares with their intervals, and how far confidence is from accuracy."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm

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
    def of(cls, hits: np.ndarray, patients: np.ndarray | None = None) -> "Share":
        """The share of true values in bool (n,), n > 0.

        patients (n,): who is on each photo. Photos of one patient are alike, so that fewer of them count: n over the design
        effect (Rao & Scott, Biometrics 48, 1992), which is at least 1.
        """
        value = float(hits.mean())
        effect = 1.0 if patients is None else _design_effect(hits, patients)
        return cls(value, *wilson(value, len(hits) / effect), len(hits))

    @classmethod
    def exact(cls, hits: np.ndarray) -> "Share":
        """The same with the interval that holds for any n, however few the hits (Clopper & Pearson, Biometrika 26, 1934)."""
        test = binomtest(int(hits.sum()), len(hits))
        interval = test.proportion_ci(0.95, method="exact")
        return cls(float(test.statistic), float(interval.low), float(interval.high), len(hits))


def wilson(value: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a share of n."""
    z2 = float(norm.ppf(0.975)) ** 2
    centre, spread = value + z2 / (2 * n), float(np.sqrt(z2 * (value * (1 - value) / n + z2 / (4 * n**2))))
    return max((centre - spread) / (1 + z2 / n), 0.0), min((centre + spread) / (1 + z2 / n), 1.0)


def _design_effect(hits: np.ndarray, patients: np.ndarray) -> float:
    """How many times larger the variance of the share is than that of as many unrelated photos; 1 where it cannot be told."""
    value = hits.mean()
    _, patient = np.unique(patients, return_inverse=True)
    off = np.bincount(patient, hits - value)
    if len(off) < 2 or value in (0, 1):
        return float(len(hits) / len(off))
    between = (off**2).sum() * len(off) / (len(off) - 1)
    unrelated = value * (1 - value) * len(hits) ** 2 / (len(hits) - 1)
    return max(1.0, float(between / unrelated))


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
