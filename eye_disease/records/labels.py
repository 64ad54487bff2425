"""Labels: what a specialist says a photo shows, kept next to the log and joined to its record by prediction id.

<model>/_labels/<digest>.ndjson: one file for every `add`, named after its content: adding the same again changes nothing.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow.csv as pacsv
import pyarrow.parquet as papq

from eye_disease.common.errors import UserError
from eye_disease.records.storage import Storage
from eye_disease.records.store import find_stores

_SHOWN_PROBLEMS = 5


class FeedbackError(UserError):
    """Labels that cannot be taken; none of them was."""


@dataclass(frozen=True)
class Label:
    """One statement on one prediction."""

    prediction_id: str
    label: str
    """A class of the model."""
    by: str
    """Who says so; a role or pseudonym."""
    at: datetime
    """UTC"""


@dataclass(frozen=True)
class Labels:
    """All statements on a model's predictions."""

    current: dict[str, Label]
    """Prediction id -> the latest statement."""
    repeated: int
    """Statements that said again what the one before had said."""
    contradicted: int
    """Predictions on which statements differ; the latest counts, all are kept."""

    @classmethod
    def of(cls, statements: Iterable[Label]) -> "Labels":
        """Order statements by time; of two at the same time the one added later in the file counts."""
        current: dict[str, Label] = {}
        contradicted: set[str] = set()
        repeated = 0
        for one in sorted(statements, key=lambda one: one.at):
            before = current.get(one.prediction_id)
            if before and before.label == one.label:
                repeated += 1
                continue
            if before:
                contradicted.add(one.prediction_id)
            current[one.prediction_id] = one
        return cls(current, repeated, len(contradicted))


class LabelBook:
    """The labels of one model, all versions."""

    def __init__(self, storage: Storage, model: str) -> None:
        self._storage = storage
        self._model = model
        self._folder = f"{model}/_labels"

    def add(self, prediction_id: str, label: str, by: str, at: datetime) -> None:
        """Keep one label. Raises FeedbackError if it names no class, or the id is none of a prediction."""
        self._keep([{"prediction_id": prediction_id, "label": label, "by": by, "at": at}], by, at, "label")

    def import_file(self, path: Path, by: str, at: datetime) -> int:
        """Keep the labels of a `.csv` or `.parquet` file, all or none; returns how many it holds.

        Columns `prediction_id` and `label`; `by` and `at` (ISO 8601) where they differ from the arguments.
        Raises FeedbackError naming the first wrong rows.
        """
        rows = _read_rows(path)
        self._keep(rows, by, at, f"{path.name} row")
        return len(rows)

    def read(self) -> Labels:
        """Every label kept so far."""
        return Labels.of(self.statements())

    def statements(self) -> list[Label]:
        """All that was ever said, as it was said."""
        lines = (
            line
            for name in self._storage.files(self._folder)
            for line in self._storage.read(f"{self._folder}/{name}").decode().splitlines()
        )
        return [Label(**fields | {"at": datetime.fromisoformat(fields["at"])}) for fields in map(json.loads, lines)]

    def classes(self) -> set[str]:
        """The classes of the model's versions, as far as their records are in the store."""
        stores = (store for store in find_stores(self._storage) if store.model == self._model)
        return {name for store in stores for name in store.state().classes}

    def _keep(self, rows: list[dict[str, Any]], by: str, at: datetime, what: str) -> None:
        classes = self.classes()
        if not classes:
            raise FeedbackError(
                f"The classes of {self._model} are not known: {self._storage.location} holds no records of it that were "
                "taken in. Run `drift_job.py run` first, or check INFERENCE_LOG_DIR and the model's name."
            )
        labels, problems = [], []
        for number, row in enumerate(rows, start=1):
            try:
                labels.append(_label(row, by, at, classes))
            except FeedbackError as error:
                problems.append(f"{what} {number}: {error}" if len(rows) > 1 else str(error))
        if problems:
            more = f" (and {len(problems) - _SHOWN_PROBLEMS:,} more)" if len(problems) > _SHOWN_PROBLEMS else ""
            raise FeedbackError(" ".join(problems[:_SHOWN_PROBLEMS]) + more)
        data = "".join(json.dumps(vars(one) | {"at": one.at.isoformat()}) + "\n" for one in labels).encode()
        if data:
            self._storage.write(f"{self._folder}/{hashlib.sha256(data).hexdigest()[:32]}.ndjson", data)


def time_of(prediction_id: str) -> datetime:
    """When a prediction was made, to the millisecond, as its id (UUIDv7) says. Raises FeedbackError for any other text."""
    try:
        number = UUID(prediction_id)
    except (ValueError, AttributeError, TypeError):
        number = None
    if number is None or number.version != 7:
        raise FeedbackError(f"prediction_id={prediction_id!r} is not one. Expected the UUID that the answer holds.")
    return datetime.fromtimestamp((number.int >> 80) / 1000, UTC)


def _label(row: dict[str, Any], by: str, at: datetime, classes: set[str]) -> Label:
    prediction_id = str(row["prediction_id"] or "").strip().lower()
    label = str(row["label"] or "").strip()
    time_of(prediction_id)
    if label not in classes:
        raise FeedbackError(f"label={label!r} is not a class of this model. Expected one of {', '.join(sorted(classes))}.")
    return Label(prediction_id, label, str(row.get("by") or by), _moment(row.get("at") or at))


def _moment(value: str | datetime) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError as error:
        raise FeedbackError(f"at={value!r} is not a time. Expected ISO 8601, as 2026-03-01T12:00:00Z.") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise FeedbackError(f"{path.name}: expected a .csv or .parquet file.")
    try:
        if path.suffix.lower() == ".csv":
            names = pacsv.read_csv(path).column_names
            as_text = pacsv.ConvertOptions(column_types=dict.fromkeys(names, "string"), strings_can_be_null=True)
            table = pacsv.read_csv(path, convert_options=as_text)
        else:
            table = papq.read_table(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise FeedbackError(f"{path.name} cannot be read: {error}") from error
    if missing := {"prediction_id", "label"} - set(table.column_names):
        raise FeedbackError(
            f"{path.name} has no column {', '.join(sorted(missing))}. Expected: prediction_id, label, and if wanted by, at."
        )
    return table.select([name for name in ("prediction_id", "label", "by", "at") if name in table.column_names]).to_pylist()
