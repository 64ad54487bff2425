"""What the embedding tells beside the class: is this photo like those the network has learned from?"""

import numpy as np

from model_code.package import Statistics

LOGGED_COMPONENTS = 16
"""Principal components of the embedding kept in each record, for drift detection."""


def ood_score(embedding: np.ndarray, statistics: Statistics) -> float | None:
    """How far an embedding, float32 (D,), lies outside the training photos' principal subspace; above 1 is out of distribution.

    The norm of the residual (as in ViM, Wang et al., CVPR 2022) over the limit fitted with the model. None if none was fitted.
    """
    if statistics.components is None or statistics.ood_limit is None:
        return None
    return float(residual_norm(embedding[None], statistics)[0] / statistics.ood_limit)


def residual_norm(embeddings: np.ndarray, statistics: Statistics) -> np.ndarray:
    """(N, D) embeddings -> (N,) norms of what the principal components do not explain."""
    centred = embeddings - statistics.embedding_mean
    return np.linalg.norm(centred - (centred @ statistics.components) @ statistics.components.T, axis=1)


def logged_components(embedding: np.ndarray, statistics: Statistics) -> list[float] | None:
    """The first LOGGED_COMPONENTS coordinates of an embedding, (D,), in the principal subspace; None if none was fitted."""
    if statistics.components is None:
        return None
    return ((embedding - statistics.embedding_mean) @ statistics.components[:, :LOGGED_COMPONENTS]).tolist()
