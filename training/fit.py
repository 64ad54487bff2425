"""Everything a model package learns beside the network: calibration, limits of good photos, the embedding's subspace."""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from model_code.embedding import residual_norm
from model_code.package import Statistics
from model_code.quality import QualityLimits

OOD_COMPONENTS = 128
"""Dimension of the principal subspace; more separates non-fundus pictures no better on validation."""
FLAGGED_SHARE = 0.01
"""Share of validation photos that the out-of-distribution limit flags."""
LIMITED_STATISTICS = {
    "brightness": (True, True),
    "contrast": (True, False),
    "sharpness": (True, True),
    "field_of_view_share": (True, False),
}
"""Statistic -> whether it has a lower and an upper limit."""
BEYOND_LIMIT = 0.004
"""Share of training photos beyond each limit of a statistic."""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that minimises the negative log-likelihood; logits (N, C), labels int (N,) (Guo et al., ICML 2017)."""

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(scaled[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error of (N, C) probabilities over equal-width bins of confidence (Naeini et al., AAAI 2015)."""
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[index == b].mean() - correct[index == b].mean()) * (index == b).mean() for b in np.unique(index)]
    return float(sum(gaps))


def fit_statistics(training: np.ndarray, validation: np.ndarray, class_weights: np.ndarray | None) -> Statistics:
    """Principal subspace of the training embeddings (N, D), and the limit that flags FLAGGED_SHARE of validation's (M, D)."""
    mean = training.mean(axis=0)
    _, _, directions = np.linalg.svd(training - mean, full_matrices=False)
    fitted = Statistics(class_weights, mean, directions[:OOD_COMPONENTS].T)
    limit = np.quantile(residual_norm(validation, fitted), 1 - FLAGGED_SHARE)
    return Statistics(class_weights, mean, fitted.components, limit)


def fit_quality_limits(statistics: pd.DataFrame) -> QualityLimits:
    """Limits beyond which BEYOND_LIMIT of good photos lie, for LIMITED_STATISTICS of a table with a row a photo."""
    limits: QualityLimits = {}
    for name, (lower, upper) in LIMITED_STATISTICS.items():
        low = round(float(statistics[name].quantile(BEYOND_LIMIT)), 4) if lower else None
        high = round(float(statistics[name].quantile(1 - BEYOND_LIMIT)), 4) if upper else None
        limits[name] = (low, high)
    return limits
