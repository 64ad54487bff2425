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

from eye_disease.common.errors import UserError
from eye_disease.common.tables import TableError, read_table, some
from eye_disease.records.storage import Storage
from eye_disease.records.store import find_stores


class FeedbackError(UserError):
    """Labels that cannot be taken; none was."""


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


@dataclass(frozen=True)
class Imported:
    """What became of the rows of a table."""

    taken: int
    refused: list[str]
    """Line and what is wrong with it, of each row that was not taken."""


class LabelBook:
    """The labels of one model, all versions."""

    def __init__(self, storage: Storage, model: str) -> None:
        self._storage = storage
        self._model = model
        self._folder = f"{model}/_labels"

    def add(self, prediction_id: str, label: str, by: str, at: datetime) -> None:
        """Keep one label. Raises FeedbackError if it names no class, or the id is none of a prediction."""
        labels, problems = self._checked([(0, {"prediction_id": prediction_id, "label": label})], by, at)
        if problems:
            raise FeedbackError(problems[0])
        self._keep(labels)

    def import_file(self, path: Path, by: str, at: datetime) -> Imported:
        """Keep the labels of a table (CSV, .xlsx, Parquet); a wrong row costs only itself.

        Columns `prediction_id` and `label`; `by` and `at` (ISO 8601) where they differ from the arguments.
        Raises FeedbackError for a file that is no such table, and where no row of it can be taken.
        """
        try:
            table = read_table(path, ("prediction_id", "label"))
        except TableError as error:
            raise FeedbackError(str(error)) from error
        rows = table.rows.astype(object).where(table.rows.notna(), None)
        labels, problems = self._checked(zip(rows.index, rows.to_dict("records"), strict=True), by, at)
        kind = rows.index.name
        refused = [f"{kind} {line}: {why}" for line, why in sorted((problems | table.bad).items())]
        if not labels:
            raise FeedbackError(f"{path.name}: no row can be taken. {some(refused)}")
        self._keep(labels)
        return Imported(len(labels), refused)

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

    def _checked(self, rows: Iterable[tuple[int, dict[str, Any]]], by: str, at: datetime) -> tuple[list[Label], dict[int, str]]:
        """(line, row) -> labels, and line -> what is wrong. Raises FeedbackError where the model's classes are not known."""
        classes = self.classes()
        if not classes:
            raise FeedbackError(
                f"The classes of {self._model} are not known: {self._storage.location} holds no records of it that were "
                "taken in. Run `drift_job.py run` first, or check INFERENCE_LOG_DIR and the model's name."
            )
        labels, problems = [], {}
        for line, row in rows:
            try:
                labels.append(_label(row, by, at, classes))
            except FeedbackError as error:
                problems[line] = str(error)
        return labels, problems

    def _keep(self, labels: list[Label]) -> None:
        data = "".join(json.dumps(vars(one) | {"at": one.at.isoformat()}) + "\n" for one in labels).encode()
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
