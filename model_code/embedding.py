"""The part of the embedding that is kept in each record, for drift detection."""

import numpy as np

from model_code.package import Statistics

LOGGED_COMPONENTS = 16
"""Principal components kept in each record."""


def logged_components(embedding: np.ndarray, statistics: Statistics) -> list[float] | None:
    """The first LOGGED_COMPONENTS coordinates of an embedding, (D,), in the principal subspace; None if none was fitted."""
    if statistics.components is None:
        return None
    return list(((embedding - statistics.embedding_mean) @ statistics.components[:, :LOGGED_COMPONENTS]).tolist())
