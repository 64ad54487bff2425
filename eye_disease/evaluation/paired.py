"""Which of two classifiers is right more often: a test for one look, and evidence that may be looked at after every label.

An e-value says how much a gambler who bets against a claim has made of 1: if the claim is true, the wealth ever reaches
1/alpha with probability alpha at most, however often one looks and whenever one stops (Ville 1939; Robbins, Ann. Math.
Statist. 41, 1970; Ramdas, Grunwald, Vovk & Shafer, Statistical Science 38, 2023). A test made for one look at a number of
labels fixed beforehand gives no such guarantee when it is looked at every day.

The bets are those of Waudby-Smith & Ramdas (JRSS-B 86, 2024) for the mean of bounded values: wealth is the product of
1 + bet (value - mean), averaged over a grid of constant bets. So it depends on counts alone, not on the order of the labels.
"""

from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from scipy.stats import binomtest

_BETS = np.geomspace(0.005, 0.99, 24)
"""Shares of the largest bet that cannot lose everything: small ones find small differences among many labels."""
_CELLS = 1_000
_BISECTIONS = 24


@dataclass(frozen=True)
class Paired:
    """The photos that only one of two classifiers answers rightly, and what they say at one look."""

    lost: int
    """Right before, wrong now."""
    won: int
    """Wrong before, right now."""
    p_worse: float
    """One-sided: the probability of at least `lost` of lost + won if neither were better."""

    @classmethod
    def of(cls, before: np.ndarray, now: np.ndarray) -> Self:
        """McNemar's test. before, now: bool (n,), whether each photo was answered rightly. p is 1 where no pair differs."""
        lost, won = int((before & ~now).sum()), int((now & ~before).sum())
        return cls(lost, won, _mcnemar(lost, won, "greater"))


@dataclass(frozen=True)
class Outcomes:
    """Labelled photos, counted by who was right. An error instead of an answer is not right."""

    won: int = 0
    """Answered by both, only the challenger right"""
    lost: int = 0
    """Answered by both, only the champion right"""
    same: int = 0
    """Answered by both, both right or both wrong"""
    champion: tuple[int, int] = (0, 0)
    """Wrong and right, of photos that only the champion answered"""
    challenger: tuple[int, int] = (0, 0)
    """Wrong and right, of photos that only the challenger answered"""

    @property
    def pairs(self) -> int:
        """Labelled photos that both answered."""
        return self.won + self.lost + self.same

    @property
    def mcnemar_p_value(self) -> float:
        """Two-sided p-value of McNemar's test that neither is better on the pairs, for one look only."""
        return _mcnemar(self.won, self.lost, "two-sided")

    def swapped(self) -> Self:
        """With the roles exchanged."""
        return replace(self, won=self.lost, lost=self.won, champion=self.challenger, challenger=self.champion)

    def paired_only(self) -> Self:
        """Without the photos that only one answered."""
        return replace(self, champion=(0, 0), challenger=(0, 0))


def log_evidence_above(values: np.ndarray, counts: np.ndarray, mean: np.ndarray | float) -> np.ndarray:
    """Log e-value against "the mean of these draws is at most `mean`", (...).

    values (K,): what a draw can be, ascending, the first being the smallest possible. counts (..., K): how often each came.
    mean (...): broadcasts with the leading axes of counts; values[0] to values[-1].
    """
    values, above = np.asarray(values, float), np.asarray(mean, float)[..., None, None]
    room = np.maximum(above - values[0], 1e-12)
    factors = np.log1p(_BETS[:, None] * (values - above) / room)
    wealth = np.einsum("...k,...bk->...b", np.asarray(counts, float), factors)
    most = wealth.max(axis=-1, keepdims=True)
    return np.asarray((most + np.log(np.exp(wealth - most).mean(axis=-1, keepdims=True)))[..., 0])


def log_evidence_better(outcomes: Outcomes, difference: float) -> float:
    """Log e-value against "challenger's accuracy minus champion's is at most `difference`", -1..1.

    The average of two e-values, which is one again (Vovk & Wang, Ann. Statist. 49, 2021): of the photos that both answered,
    and of those that one did. Valid if which photos get a label does not depend on who was right on them.
    """
    paired = log_evidence_above(np.array([-1, 0, 1]), np.array([outcomes.lost, outcomes.same, outcomes.won]), difference)
    return float(np.logaddexp(paired, _log_evidence_unpaired(outcomes, difference)) - np.log(2))


def log_evidence_worse(outcomes: Outcomes, difference: float) -> float:
    """Log e-value against "challenger's accuracy minus champion's is at least `difference`"."""
    return log_evidence_better(outcomes.swapped(), -difference)


def interval(outcomes: Outcomes, alpha: float) -> tuple[float, float]:
    """Challenger's accuracy minus champion's: a confidence sequence, which holds the truth at all times at once, 1 - alpha."""
    return _lower_end(outcomes, alpha / 2), -_lower_end(outcomes.swapped(), alpha / 2)


def _mcnemar(first: int, second: int, alternative: Literal["greater", "two-sided"]) -> float:
    """McNemar's test (Psychometrika 12, 1947), exact: binomial on the pairs that differ; 1 where none does."""
    return float(binomtest(first, first + second, alternative=alternative).pvalue) if first + second else 1.0


def _log_evidence_unpaired(outcomes: Outcomes, difference: float) -> float:
    """Two independent samples: for each accuracy q that the champion may have, somebody bets that the champion is below q and
    the challenger above q + difference; the poorest of them counts.

    The first bet grows with q and the second falls, so the ends of a cell of a grid bound them: it is never given too much.
    """
    edges = np.linspace(0, 1, _CELLS + 1)
    champion_below = log_evidence_above(np.array([-1, 0]), np.array(outcomes.champion)[::-1], -edges[:-1])
    bound = np.clip(edges[1:] + difference, 0, 1)
    challenger_above = log_evidence_above(np.array([0, 1]), np.array(outcomes.challenger), bound)
    possible = edges[1:] + difference >= 0
    return float((champion_below + challenger_above)[possible].min())


def _lower_end(outcomes: Outcomes, alpha: float) -> float:
    """The largest difference that there is evidence against at level alpha, -1 if there is none; to 1e-7."""
    low, high = -1.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if log_evidence_better(outcomes, middle) >= -np.log(alpha):
            low = middle
        else:
            high = middle
    return low
