"""Many tests at once."""

import numpy as np


def holm(p_values: list[float]) -> list[float]:
    """Each p-value for all of them together: none of the true hypotheses has one of at most alpha, with probability 1 - alpha.

    Holm's step-down (Scand. J. Statist. 6, 1979).
    """
    order = np.argsort(p_values, kind="stable")
    stepped = np.asarray(p_values, float)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return [float(p) for p in adjusted]
