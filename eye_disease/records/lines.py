"""Lines of the inference log -> a table of records, and the lines that are none."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as paj
from mlflow.types import DataType

from model_code.schema import SCHEMA_VERSION, answer_types, empty_facts

_KEYS = ("timestamp", "process_id", "sequence", "prediction_id")
"""Without them a line is no record."""
_ARROW = {DataType.string: pa.string(), DataType.double: pa.float64(), DataType.boolean: pa.bool_()}
_FACTS = dict.fromkeys(("site", "image_sha256", "format", "file_defect", "laterality", "device_model"), pa.string())
_FACTS |= dict.fromkeys(("image_bytes", "width", "height"), pa.int64()) | {"canary": pa.bool_()}

REASONS = {
    "torn": "the end of a file, cut in the middle of a record",
    "not_json": "not a JSON object",
    "schema_version": f"written by another release: `schema_version` is not {SCHEMA_VERSION}",
    "classes": "of a model with other classes than the version's first record",
    "malformed": "a field is missing or of another type",
}
"""Reason for which a line is set aside -> meaning."""


@dataclass(frozen=True)
class Rejected:
    """A line that is no record."""

    line: bytes
    reason: str
    """A key of REASONS."""


def record_schema(classes: tuple[str, ...]) -> pa.Schema:
    """Column -> type of the records of a model with these classes."""
    answer = {name: _ARROW[kind] for name, kind in answer_types(classes).items()}
    facts = {name: _FACTS.get(name, pa.float64()) for name in empty_facts()}
    return pa.schema(
        {"timestamp": pa.timestamp("us", "UTC"), "process_id": pa.string(), "sequence": pa.int64(), "lost_records": pa.int64()}
        | answer
        | facts
        | dict.fromkeys(("model_name", "run_id", "model_source", "role"), pa.string())
        | {"model_load_time_seconds": pa.float64(), "schema_version": pa.int64()}
    )


def find_classes(block: bytes) -> tuple[str, ...] | None:
    """The classes of the first record in some lines; None if there is none."""
    for line in block.splitlines():
        record = _load(line)
        if isinstance(record, dict) and record.get("schema_version") == SCHEMA_VERSION and (classes := _classes(record)):
            return classes
    return None


def parse(block: bytes, classes: tuple[str, ...]) -> tuple[pa.Table, list[Rejected]]:
    """Whole lines -> their records in order, with the columns of `record_schema(classes)`, and the lines set aside.

    Fields that the schema does not name are left out.
    """
    schema = record_schema(classes)
    table = _parse_clean(block, schema, classes)
    if table is not None:
        return table, []
    rows: list[dict[str, Any]] = []
    rejected: list[Rejected] = []
    for line in block.split(b"\n"):
        if line.strip():
            row = _parse_line(line, schema, classes)
            if isinstance(row, Rejected):
                rejected.append(row)
            else:
                rows.append(row)
    return pa.Table.from_pylist(rows, schema=schema), rejected


def _parse_clean(block: bytes, schema: pa.Schema, classes: tuple[str, ...]) -> pa.Table | None:
    """All lines at once, several times faster; None if any of them needs a closer look."""
    if not block or b"NaN" in block or b"Infinity" in block:
        return None
    options = paj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        table = paj.read_json(
            pa.BufferReader(block),
            parse_options=options,
            read_options=paj.ReadOptions(use_threads=False, block_size=len(block) + 1),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    whole = table.num_rows == block.count(b"\n") and all(table[name].null_count == 0 for name in (*_KEYS, "schema_version"))
    return table if whole and pc.all(_is_answered_as(table, classes)).as_py() else None


def _is_answered_as(table: pa.Table, classes: tuple[str, ...]) -> pa.ChunkedArray:
    """Per row: known schema version, and either no answer or one with a probability for each of the classes."""
    answered = pc.is_in(table["predicted_class"], value_set=pa.array(classes, pa.string()))
    for name in classes:
        answered = pc.and_(answered, pc.is_valid(table[f"prob_{name}"]))
    known = pc.equal(table["schema_version"], SCHEMA_VERSION)
    return pc.and_(known, pc.or_(answered, pc.is_null(table["predicted_class"])))


def _parse_line(line: bytes, schema: pa.Schema, classes: tuple[str, ...]) -> dict[str, Any] | Rejected:
    record = _load(line)
    if not isinstance(record, dict):
        return Rejected(line, "not_json")
    if record.get("schema_version") != SCHEMA_VERSION:
        return Rejected(line, "schema_version")
    if _classes(record) != classes:
        return Rejected(line, "classes")
    try:
        row = {field.name: _CONVERT[field.type](record.get(field.name)) for field in schema}
    except (TypeError, ValueError, OverflowError):
        return Rejected(line, "malformed")
    if any(row[name] is None for name in _KEYS) or row["predicted_class"] not in (*classes, None):
        return Rejected(line, "malformed")
    return row


def _load(line: bytes) -> Any:
    """The value of a line; None if it is not JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _classes(record: dict[str, Any]) -> tuple[str, ...]:
    return tuple(name.removeprefix("prob_") for name in record if name.startswith("prob_"))


def _nullable(convert: Callable[[Any], Any], *allowed: type) -> Callable[[Any], Any]:
    def converted(value: Any) -> Any:
        if value is not None and type(value) not in allowed:
            raise TypeError
        return None if value is None else convert(value)

    return converted


def _text(value: str) -> str:
    """Half of a surrogate pair, which a client can send in JSON, has no UTF-8."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _number(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError
    return float(value)


def _integer(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise ValueError
    return value


def _time(value: str) -> datetime:
    moment = datetime.fromisoformat(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


_CONVERT = {
    pa.string(): _nullable(_text, str),
    pa.float64(): _nullable(_number, float, int),
    pa.int64(): _nullable(_integer, int),
    pa.bool_(): _nullable(bool, bool),
    pa.timestamp("us", "UTC"): _nullable(_time, str),
}
