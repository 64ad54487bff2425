"""A bounded uniform sample of embeddings that does not depend on the order in which records come."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa

from eye_disease.profiles.columns import Records, column, numbers
from eye_disease.profiles.layout import EMBEDDING

SAMPLE_ROWS = 500


@dataclass(frozen=True)
class Sample:
    """The SAMPLE_ROWS records whose prediction ids have the smallest hashes (bottom-k sampling: Cohen & Kaplan, PODC 2007)."""

    hashes: np.ndarray
    """uint64 (K,), ascending"""
    rows: np.ndarray
    """float32 (K, 16): principal components of the embedding"""

    @classmethod
    def of(cls, records: Records) -> Self:
        """Of the answered records that have an embedding."""
        columns = [numbers(records, name) for name in EMBEDDING]
        whole = column(records, "error_code", pa.string()).is_null().to_numpy(zero_copy_only=False)
        for values in columns:
            whole = whole & np.isfinite(values)
        ids = column(records, "prediction_id", pa.string()).filter(pa.array(whole)).to_numpy(zero_copy_only=False)
        hashes = pd.util.hash_array(ids, categorize=False)
        near = _near(hashes)
        return cls._smallest(hashes[near], np.column_stack([values[whole][near] for values in columns]).astype(np.float32))

    @classmethod
    def _smallest(cls, hashes: np.ndarray, rows: np.ndarray) -> Self:
        order = np.lexsort((*rows.T[::-1], hashes))[:SAMPLE_ROWS]  # equal hashes by their rows: any order gives the same
        return cls(hashes[order], rows[order])

    def __add__(self, other: Self) -> Self:
        return self._smallest(np.concatenate([self.hashes, other.hashes]), np.concatenate([self.rows, other.rows]))

    def __len__(self) -> int:
        return len(self.hashes)

    def to_json(self) -> dict[str, Any]:
        """As JSON types; the arrays' little-endian bytes in base64, since text would be three times as long."""
        arrays = {"hashes": self.hashes.astype("<u8"), "rows": self.rows.astype("<f4")}
        return {name: base64.b64encode(array.tobytes()).decode() for name, array in arrays.items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        hashes = np.frombuffer(base64.b64decode(stored["hashes"]), "<u8")
        return cls(hashes, np.frombuffer(base64.b64decode(stored["rows"]), "<f4").reshape(len(hashes), len(EMBEDDING)))


def _near(hashes: np.ndarray) -> np.ndarray:
    """Which hashes may be among the SAMPLE_ROWS smallest, bool (N,)."""
    if len(hashes) <= SAMPLE_ROWS:
        return np.ones(len(hashes), bool)
    return np.asarray(hashes <= np.partition(hashes, SAMPLE_ROWS - 1)[SAMPLE_ROWS - 1])
