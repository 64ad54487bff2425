"""The alternative to merged windows: an e-detector, which needs no scales and promises its run length by Ville's inequality.

Shin, Ramdas & Rinaldo, E-detectors (2022): the Shiryaev-Roberts sum of e-processes, one begun at each window; its mean run
length without drift is the threshold at least, if every e-value has mean 1 at most. Per stream and strength the e-value of a
window is the likelihood ratio of a Gaussian score; the average over streams and strengths is one again.
"""

import numpy as np

from eye_disease.profiles.count_tests import Counts, Scores

STRENGTHS = np.array([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0])
"""Shifts of a window's mean that are bet on, in its standard errors."""


def scores_of(windows: Counts, base: Counts, scores: list[Scores]) -> np.ndarray:
    """Standard deviates of each window's mean scores from the base's, (T, K): the base is taken for the truth."""
    columns = []
    for one in scores:
        (sums, n), (base_sum, base_n) = one.of(windows), one.of(base)
        columns.append((sums / n - base_sum / base_n) / np.sqrt(one.variance / n))
    return np.column_stack(columns)


def first_alarm(deviates: np.ndarray, threshold: float, slack: float = 0.0) -> int | None:
    """Index of the first window, of deviates (T, K), at which the e-detector passes its threshold; None: at none.

    slack: how far, in standard errors, the truth may lie from the reference, which is a sample: bets are on what is beyond.
    """
    log_sums = np.full((deviates.shape[1], len(STRENGTHS)), -np.inf)
    for t, row in enumerate(deviates):
        beyond = np.sign(STRENGTHS) * row[:, None] - slack
        log_sums = np.logaddexp(log_sums, 0.0) + np.abs(STRENGTHS) * beyond - STRENGTHS**2 / 2
        if np.logaddexp.reduce(log_sums, axis=None) - np.log(log_sums.size) >= np.log(threshold):
            return t
    return None
