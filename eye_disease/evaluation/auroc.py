"""Area under the ROC curve of two groups of photos, with an interval that knows that a patient has two eyes."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.stats import norm, rankdata

from eye_disease.evaluation.shares import wilson

_Z = float(norm.ppf(0.975))


@dataclass(frozen=True)
class Auroc:
    """The chance that a photo with the disease scores higher than one without (ties count half), with its 95 % interval."""

    value: float
    low: float
    high: float
    ill: int
    """Photos with the disease"""
    healthy: int

    @classmethod
    def of(cls, scores: np.ndarray, ill: np.ndarray, patients: np.ndarray) -> Self:
        """scores float (n,), ill bool (n,), patients (n,): who is on the photo. Raises ValueError where a side has no photos.

        The variance is DeLong's (Biometrics 44, 1988) with the photos of a patient taken together (Obuchowski, Biometrics 53,
        1997), the interval symmetric for the log odds. Where all pairs are right or all are wrong there is no variance, and the
        interval is Wilson's for as many right answers as the smaller side has patients.
        """
        m, n = int(ill.sum()), int((~ill).sum())
        if not m or not n:
            raise ValueError(f"An AUROC needs photos of both sides; there are {m} with the disease and {n} without.")
        # Of a photo, the share of the other side that it is told apart from: ranks among all, less ranks within its own side.
        ranks = rankdata(scores)
        share = np.where(ill, 0.0, 1.0)
        share[ill] = (ranks[ill] - rankdata(scores[ill])) / n
        share[~ill] = 1 - (ranks[~ill] - rankdata(scores[~ill])) / m
        value = float(share[ill].mean())
        count = {side: len(np.unique(patients[ill == side])) for side in (True, False)}
        if value in (0.0, 1.0):
            return cls(value, *wilson(value, min(count.values())), m, n)
        # A patient's photos are summed, those of both sides over their side's number: so the sides' covariance is in it.
        small = {side: np.sqrt(patients_of / max(patients_of - 1, 1)) for side, patients_of in count.items()}
        _, patient = np.unique(patients, return_inverse=True)
        part = np.bincount(patient, (share - value) * np.where(ill, small[True] / m, small[False] / n))
        error = float(np.sqrt((part**2).sum()))
        spread = _Z * error / (value * (1 - value))
        odds = np.log(value / (1 - value))
        low, high = (1 / (1 + np.exp(-(odds + side * spread))) for side in (-1, 1))
        return cls(value, float(low), float(high), m, n)
