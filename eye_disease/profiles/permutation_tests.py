"""Two-sample tests on embeddings, (n, D) against (m, D), by permutation: maximum mean discrepancy and domain classifier."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

PERMUTATIONS = 9_999
_FIRST = 199
_HOPELESS = 10
_FOLDS = 5
_RIDGE = 1.0


@dataclass(frozen=True)
class TestResult:
    """Of a permutation test."""

    value: float
    p_value: float
    """(1 + k) / (B + 1), k of B permutations being as extreme (Phipson & Smyth, SAGMB 2010)"""
    null_limit: float
    """What 99 % of the permutations stay below"""


def mmd(window: np.ndarray, reference: np.ndarray, seed: int = 0) -> TestResult:
    """Squared maximum mean discrepancy with an RBF kernel, biased form (Gretton et al., JMLR 13, 2012, eq. 5).

    The bandwidth is the median distance of the pooled rows; columns are scaled to the reference's deviation first.
    """
    pooled = _standardised(window, reference)
    squares = (pooled**2).sum(axis=1)
    distances = (squares[:, None] + squares - 2 * pooled @ pooled.T).clip(0)
    median = np.median(distances[np.triu_indices(len(pooled), 1)])
    kernel = np.exp(-distances / (median or 1.0)).astype(np.float32)

    def statistic(labels: np.ndarray) -> np.ndarray:
        weights = labels / len(window) - (1 - labels) / len(reference)
        return np.asarray(np.einsum("bi,bi->b", weights @ kernel, weights))

    return _permute(statistic, len(window), len(reference), seed)


def domain_classifier(window: np.ndarray, reference: np.ndarray, seed: int = 0) -> TestResult:
    """Balanced accuracy of telling window from reference (classifier two-sample test, Lopez-Paz & Oquab, ICLR 2017).

    A ridge classifier on the columns and their squares, cross-validated in five folds; its answers are linear in the labels,
    so every permutation costs one matrix product.
    """
    pooled = _standardised(window, reference)
    features = np.column_stack([np.ones(len(pooled)), pooled, pooled**2 - 1])
    folds = np.random.default_rng(seed).permutation(len(pooled)) % _FOLDS
    smoother = np.zeros((len(pooled), len(pooled)), np.float32)
    for fold in range(_FOLDS):
        inside, outside = features[folds != fold], features[folds == fold]
        gram = inside.T @ inside + _RIDGE * np.eye(features.shape[1])
        smoother[np.ix_(folds == fold, folds != fold)] = outside @ np.linalg.solve(gram, inside.T)

    def statistic(labels: np.ndarray) -> np.ndarray:
        # Both sides weigh the same in the fit, as they do in the balanced accuracy.
        targets = labels / len(window) - (1 - labels) / len(reference)
        positive = targets.astype(np.float32) @ smoother.T > 0
        hits = (positive * labels).sum(axis=1) / len(window) + (~positive * (1 - labels)).sum(axis=1) / len(reference)
        return np.asarray(hits / 2)

    return _permute(statistic, len(window), len(reference), seed)


def _standardised(window: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Pooled rows, window first, each column in units of the reference's deviation; heavy tails are bounded at 5."""
    deviation = reference.std(axis=0)
    scaled = (np.concatenate([window, reference]) - reference.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return np.asarray(scaled.clip(-5, 5))


def _permute(statistic: Callable[[np.ndarray], np.ndarray], n: int, m: int, seed: int) -> TestResult:
    """Statistic of labels, float32 (B, n + m) of ones and zeros -> (B,); large is extreme.

    Stops early when the first permutations leave no hope of significance (Besag & Clifford, Biometrika 1991).
    """
    labels = np.concatenate([np.ones(n, np.float32), np.zeros(m, np.float32)])[None]
    value = float(statistic(labels)[0])
    rng = np.random.default_rng(seed)
    null = np.empty(0)
    while len(null) < PERMUTATIONS and (len(null) == 0 or (null >= value).sum() < _HOPELESS):
        count = _FIRST if len(null) == 0 else min(1_000, PERMUTATIONS - len(null))
        null = np.concatenate([null, statistic(rng.permuted(np.repeat(labels, count, axis=0), axis=1))])
    extreme = int((null >= value - 1e-9).sum())
    return TestResult(value, (1 + extreme) / (len(null) + 1), float(np.quantile(null, 0.99)))
