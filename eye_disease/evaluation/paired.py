"""Two classifiers on the same photos."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.stats import binomtest


@dataclass(frozen=True)
class Paired:
    """The photos that only one of two classifiers answers rightly, and what they say."""

    lost: int
    """Right before, wrong now."""
    won: int
    """Wrong before, right now."""
    p_worse: float
    """One-sided: the probability of at least `lost` of lost + won if neither were better."""

    @classmethod
    def of(cls, before: np.ndarray, now: np.ndarray) -> Self:
        """McNemar's test (Psychometrika 12, 1947), exact: binomial on the pairs that differ.

        before, now: bool (n,), whether each photo was answered rightly. p is 1 where no pair differs.
        """
        lost, won = int((before & ~now).sum()), int((now & ~before).sum())
        p_value = binomtest(lost, lost + won, 0.5, alternative="greater").pvalue if lost + won else 1.0
        return cls(lost, won, float(p_value))
