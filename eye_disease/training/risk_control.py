"""Which answers may be reported: thresholds under which two promises hold with the asked certainty.

Of the reported answers at most `max_error` are wrong (selection with guaranteed risk, Geifman & El-Yaniv, NeurIPS 2017), and of
the eyes that must not be missed at most `max_missed` are reported as healthy. The thresholds are tested from the strictest to
the loosest, each for both promises at once, and the last one before the first failure is taken (Learn then Test, Angelopoulos
et al., arXiv:2110.01052: fixed-sequence testing, and the larger p-value of several risks). So nothing is paid for the number of
thresholds nor for the second promise: the chance that either is broken is at most 1 - `certainty`, for photos drawn as the
validation photos were. Every test is binomial and exact; it takes one photo a patient (of those reported, or serious), since
the two eyes of one patient are not two observations: the promise is of patients, each with a photo drawn at random.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, binom

from model_code.promise import Bounded, Promise

FIRST_SHARE = 0.1
"""Share of the photos that the strictest threshold tested would report. A stricter one reports too few for a test to succeed
by anything but luck, and one failure ends the sequence; a looser one asks more of the first test than a modest network can
keep. The scores alone choose it, no label."""
STEPS = 30
"""Thresholds tested."""


PROMISED = {
    "max_error": "share of reported answers that may be wrong",
    "max_missed": "share of eyes with a disease (DR from grade 2 on) that may be reported as healthy",
    "certainty": "chance that both hold",
}
"""What each of the Targets is"""


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

    seed: which of a patient's photos stands for the patient.
    """
    cases = cases[np.random.default_rng(seed).permutation(len(cases.score))]
    passed = None
    for threshold in _thresholds(cases.score):
        if not _holds(_counted(cases, threshold), targets):
            break
        passed = float(threshold)
    if passed is None:
        wrong = missed = np.empty(0, bool)
    else:
        wrong, missed = _counted(cases, passed)
    return Promise(
        **vars(targets),
        threshold=passed,
        error=_bounded(wrong, targets.certainty) if len(wrong) else None,
        missed=_bounded(missed, targets.certainty) if len(missed) else None,
        reported=0.0 if passed is None else float((cases.score >= passed).mean()),
        patients=len(np.unique(cases.patient)),
    )


def _counted(cases: Cases, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """What is counted at a threshold, one photo a patient each: of the reported, which are wrong, bool (n,); of those that
    must not be missed, which are reported as healthy, bool (m,).

    The first of a patient's photos that are reported (or serious) stands for the patient; the order is random.
    """
    reported = cases.score >= threshold
    return (
        cases.wrong[_first_of_each(cases.patient, reported)],
        (reported & cases.healthy)[_first_of_each(cases.patient, cases.serious)],
    )


def _first_of_each(patient: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Places of the first chosen photo of every patient that has one; bool (N,)."""
    places = np.flatnonzero(chosen)
    return places[np.unique(patient[places], return_index=True)[1]]


def _holds(counted: tuple[np.ndarray, np.ndarray], targets: Targets) -> bool:
    """Whether neither "more than `max_error` are wrong" nor "more than `max_missed` are missed" can be true."""
    limits = (targets.max_error, targets.max_missed)
    p_values = [binom.cdf(hits.sum(), len(hits), limit) for hits, limit in zip(counted, limits, strict=True) if len(hits)]
    return bool(max(p_values) <= 1 - targets.certainty)


def _bounded(hits: np.ndarray, certainty: float) -> Bounded:
    return Bounded(int(hits.sum()), len(hits), upper_bound(int(hits.sum()), len(hits), certainty))


def upper_bound(hits: int, n: int, certainty: float) -> float:
    """The share that the true one does not exceed, with that certainty (Clopper & Pearson, Biometrika 26, 1934, one-sided)."""
    return 1.0 if hits >= n else float(beta.ppf(certainty, hits + 1, n - hits))


def _thresholds(score: np.ndarray) -> np.ndarray:
    """From the one that reports FIRST_SHARE of the photos to the one that reports all that may be, falling."""
    allowed = np.sort(score[np.isfinite(score)])[::-1]
    if not len(allowed):
        return np.empty(0)
    first = min(int(np.ceil(FIRST_SHARE * len(score))), len(allowed))
    return np.asarray(allowed[np.unique(np.linspace(first, len(allowed), STEPS).round().astype(int)) - 1])
