"""Columns of a record table as numpy arrays, whatever a reader made of them: nulls, missing columns, integers for floats."""

from datetime import UTC, datetime
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eye_disease.common.errors import UserError

Records: TypeAlias = pa.Table | pa.RecordBatch


def column(records: Records, name: str, kind: pa.DataType) -> pa.Array:
    """A column as an array of `kind`; null where it is missing. Raises ValueError if it holds something else."""
    if name not in records.schema.names:
        return pa.nulls(len(records), kind)
    values = records.column(name)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    try:
        return values if values.type == kind else values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"Column {name!r} holds {values.type}, expected {kind}: {error}") from error


def numbers(records: Records, name: str) -> np.ndarray:
    """A numeric column, float64 (N,); NaN where it is null."""
    return np.asarray(column(records, name, pa.float64()).to_numpy(zero_copy_only=False))


def counts(values: pa.Array) -> dict[str, int]:
    """Value -> how often, nulls left out, sorted by value."""
    frequencies = values.drop_null().value_counts().to_pylist()
    return {count["values"]: count["counts"] for count in sorted(frequencies, key=lambda count: count["values"])}


def time_range(records: Records) -> tuple[datetime | None, datetime | None]:
    """First and last `timestamp`, in UTC; ISO 8601 text or Arrow timestamps. (None, None) if there is none."""
    if "timestamp" not in records.schema.names or len(records) == 0:
        return None, None
    extremes = pc.min_max(records.column("timestamp"))
    return _utc(extremes["min"].as_py()), _utc(extremes["max"].as_py())


def _utc(value: str | datetime | None) -> datetime | None:
    if value is None:
        return None
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
