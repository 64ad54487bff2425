"""Is this a gradable photo like those the model has learned from? Read off the network's middle layers.

What a camera, an exposure or a thing that is no fundus does to a photo shows in the texture of the feature maps half-way, which
the last layers have learned to ignore: there, an unknown camera looks like any other.
"""

import numpy as np

from model_code.package import Statistics


def ood_score(style: np.ndarray, statistics: Statistics) -> float | None:
    """How far a photo's style, float32 (K,), lies from the training photos; above 1 is out of distribution.

    Mahalanobis distance to the nearest source of training photos (as Lee et al., NeurIPS 2018, measure it to the nearest
    class), over the limit fitted with the model. None if none was fitted.
    """
    if statistics.source_means is None or statistics.ood_limit is None:
        return None
    return float(source_distance(style[None].astype(np.float64), statistics)[0] / statistics.ood_limit)


def is_unfamiliar(score: float | None, statistics: Statistics) -> bool | None:
    """Whether an `ood_score` speaks of a camera that was not among the training photos; None if no limit was fitted."""
    return None if score is None or statistics.familiar_limit is None else bool(score > statistics.familiar_limit)


def is_gradable(style: np.ndarray, statistics: Statistics) -> bool | None:
    """Whether a photo's style, float32 (K,), speaks of a gradable photo; None if that was not fitted."""
    if statistics.quality_weights is None:
        return None
    return bool(quality_margin(style[None].astype(np.float64), statistics.quality_weights)[0] <= 0)


def source_distance(styles: np.ndarray, statistics: Statistics) -> np.ndarray:
    """(N, K) styles -> (N,) Mahalanobis distances, each to its nearest source."""
    if statistics.source_means is None or statistics.source_precisions is None:
        raise ValueError("No look of training photos was fitted: these statistics have no source_means or source_precisions.")
    squared = [
        np.einsum("nk,kl,nl->n", styles - mean, precision, styles - mean)
        for mean, precision in zip(statistics.source_means, statistics.source_precisions, strict=True)
    ]
    return np.asarray(np.sqrt(np.min(squared, axis=0)))


def quality_margin(styles: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(N, K) styles and (K + 1,) weights, the last one the offset -> (N,); above 0 is not gradable."""
    return np.asarray(styles @ weights[:-1] + weights[-1])
