"""Photos that are in a set more than once: the same pixels, or copies that were mirrored, brightened or saved again."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

NEAR = 0.95
"""Correlation of fine detail from which two photos count as copies; photos of two patients seldom reach it."""
_SIDE = 64
_INNER = 0.84
_ROWS = 1024


@dataclass(frozen=True)
class Fingerprint:
    """What photos are compared by."""

    digest: str
    """SHA-256 of the disc square's pixels."""
    detail: np.ndarray
    """float32 (K,), a unit vector: fine detail inside the disc."""
    mirrored: np.ndarray
    """The same of the mirror image."""

    @classmethod
    def of(cls, square: np.ndarray) -> Self:
        """Of a disc square, uint8 (S, S, 3)."""
        return cls(hashlib.sha256(square.tobytes()).hexdigest(), _detail(square), _detail(square[:, ::-1]))


def find_duplicates(rows: pd.DataFrame, prints: Sequence[Fingerprint]) -> pd.DataFrame:
    """Pairs of photos alike; prints (N,) in the order of `rows`, which has the columns path and label.

    Columns: first, second (positions in `rows`), path_1, path_2, label_1, label_2, similarity, identical (pixel by pixel).
    """
    details = np.stack([fingerprint.detail for fingerprint in prints]) if prints else np.zeros((0, 1))
    mirrored = np.stack([fingerprint.mirrored for fingerprint in prints]) if prints else details
    alike = []
    for start in range(0, len(details), _ROWS):
        block = details[start : start + _ROWS]
        similarity = np.maximum(block @ details.T, block @ mirrored.T)
        for i, j in np.argwhere(similarity >= NEAR):
            if start + i < j:
                alike.append((start + i, j, similarity[i, j], prints[start + i].digest == prints[j].digest))
    pairs = pd.DataFrame(alike, columns=["first", "second", "similarity", "identical"])
    for side, column in (("1", "first"), ("2", "second")):
        pairs[f"path_{side}"] = rows["path"].to_numpy()[pairs[column].to_numpy(int)]
        pairs[f"label_{side}"] = rows["label"].to_numpy()[pairs[column].to_numpy(int)]
    return pairs


def contradicting(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs of identical photos that have two labels."""
    return pairs[pairs["identical"].astype(bool) & (pairs["label_1"] != pairs["label_2"])]


def joined_groups(groups: pd.Series, pairs: pd.DataFrame) -> np.ndarray:
    """Groups (N,) in which photos alike share one, so that no copy lies on the other side of a split."""
    codes, _ = pd.factorize(groups)
    first, second = codes[pairs["first"].to_numpy(int)], codes[pairs["second"].to_numpy(int)]
    links = coo_array((np.ones(len(first)), (first, second)), shape=(codes.max() + 1,) * 2)
    return connected_components(links, directed=False)[1][codes]


def _detail(square: np.ndarray) -> np.ndarray:
    """Fine detail inside the disc, a unit vector: grey, small, less its own blur; the camera's frame left out."""
    grey = Image.fromarray(square).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    light = np.asarray(grey, np.float32)
    axis = np.linspace(-1, 1, _SIDE)
    inside = axis[:, None] ** 2 + axis[None, :] ** 2 < _INNER**2
    detail = (light - gaussian_filter(light, 2))[inside]
    detail -= detail.mean()
    return detail / max(float(np.linalg.norm(detail)), 1e-6)
