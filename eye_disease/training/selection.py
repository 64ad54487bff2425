"""Which answers may be reported: thresholds under which two promises hold with the asked certainty.

Of the reported answers at most `max_error` are wrong (selection with guaranteed risk, Geifman & El-Yaniv, NeurIPS 2017), and of
the eyes that must not be missed at most `max_missed` are reported as healthy. The thresholds are tested from the strictest to
the loosest, each for both promises at once, and the last one before the first failure is taken (Learn then Test, Angelopoulos
et al., arXiv:2110.01052: fixed-sequence testing, and the larger p-value of several risks). So nothing is paid for the number of
thresholds nor for the second promise: the chance that either is broken is at most 1 - `certainty`, for photos drawn as the
validation photos were. Every test is binomial and exact; it takes one photo a patient, since the two eyes of one patient are
not two observations.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, binom

from model_code.promise import Bounded, Promise

FIRST_SHARE = 0.3
"""Share of the photos that the strictest threshold tested would report. A stricter one reports too few for a test to succeed
by anything but luck, and one failure ends the sequence. The scores alone choose it, no label."""
STEPS = 30
"""Thresholds tested."""


@dataclass(frozen=True)
class Targets:
    """What is promised of the answers that are reported."""

    max_error: float = 0.08
    """Of reported answers, how many may be wrong, 0..1"""
    max_missed: float = 0.05
    """Of eyes that must not be missed, how many may be reported as healthy, 0..1"""
    certainty: float = 0.95
    """Chance that both hold, over the draw of the validation photos"""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < 1:
                raise ValueError(f"{name}={value}: expected a share between 0 and 1.")


@dataclass(frozen=True)
class Cases:
    """Answered photos whose truth is known, (N,) each."""

    score: np.ndarray
    """float: how sure the answer is; -inf where it must not be reported whatever the threshold"""
    wrong: np.ndarray
    """bool: the answer is not the label"""
    healthy: np.ndarray
    """bool: the answer is the healthy class"""
    serious: np.ndarray
    """bool: the eye must not be missed"""
    patient: np.ndarray
    """str or int: photos of the same patient bear the same"""

    def __getitem__(self, chosen: np.ndarray) -> "Cases":
        return Cases(**{name: values[chosen] for name, values in vars(self).items()})


def select(cases: Cases, targets: Targets, seed: int = 0) -> Promise:
    """The loosest threshold in the sequence under which both promises hold, and what was counted under it.

    seed: which photo of a patient stands for the patient.
    """
    single = cases[one_a_patient(cases.patient, seed)]
    passed = None
    for threshold in _thresholds(single.score):
        if max(_p_values(single, threshold, targets)) > 1 - targets.certainty:
            break
        passed = float(threshold)
    reported = single.score >= (np.inf if passed is None else passed)
    missed = (reported & single.healthy)[single.serious]
    nothing = passed is None
    return Promise(
        **vars(targets),
        threshold=passed,
        error=None if nothing else _bounded(single.wrong[reported], targets.certainty),
        missed=None if nothing or not len(missed) else _bounded(missed, targets.certainty),
        reported=0.0 if nothing else float((cases.score >= passed).mean()),
        patients=len(single.score),
    )


def _bounded(hits: np.ndarray, certainty: float) -> Bounded:
    return Bounded(int(hits.sum()), len(hits), upper_bound(int(hits.sum()), len(hits), certainty))


def one_a_patient(patient: np.ndarray, seed: int) -> np.ndarray:
    """Places (P,) of one photo of each patient, drawn at random, in rising order."""
    order = np.random.default_rng(seed).permutation(len(patient))
    return np.sort(order[np.unique(patient[order], return_index=True)[1]])


def upper_bound(hits: int, n: int, certainty: float) -> float:
    """The share that the true one does not exceed, with that certainty (Clopper & Pearson, Biometrika 26, 1934, one-sided)."""
    return 1.0 if hits >= n else float(beta.ppf(certainty, hits + 1, n - hits))


def _thresholds(score: np.ndarray) -> np.ndarray:
    """From the one that reports FIRST_SHARE of the photos to the one that reports all that may be, falling."""
    allowed = np.sort(score[np.isfinite(score)])[::-1]
    if not len(allowed):
        return np.empty(0)
    first = min(int(np.ceil(FIRST_SHARE * len(score))), len(allowed))
    return allowed[np.unique(np.linspace(first, len(allowed), STEPS).round().astype(int)) - 1]


def _p_values(cases: Cases, threshold: float, targets: Targets) -> tuple[float, float]:
    """Of "more than `max_error` of the reported are wrong" and "more than `max_missed` of the serious are reported healthy"."""
    reported = cases.score >= threshold
    missed = (reported & cases.healthy)[cases.serious]
    return (
        float(binom.cdf(cases.wrong[reported].sum(), reported.sum(), targets.max_error)),
        float(binom.cdf(missed.sum(), len(missed), targets.max_missed)) if len(missed) else 0.0,
    )
