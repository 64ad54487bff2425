"""Labels: what a specialist says a photo shows, kept next to the log and joined to its record by prediction id.

<model>/_labels/<digest>.ndjson: one file for every `add`, named after its content: adding the same again changes nothing.
Of a file that is damaged, the statements that can be read are kept as another one, and it is set aside.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from eye_disease.common.errors import UserError
from eye_disease.common.tables import TableError, read_table, some
from eye_disease.records.state_file import StateFileError, read_bytes, set_aside
from eye_disease.records.storage import Storage
from eye_disease.records.store import StoreError, StoreSnapshot, find_stores

_Row: TypeAlias = Mapping[Any, Any]
_logger = logging.getLogger(__name__)
BETWEEN_ID_AND_RECORD = timedelta(hours=1)
"""A prediction's id is made before its record's timestamp: at most the time a request takes."""
_CLOCKS_DIFFER = timedelta(minutes=5)
_FIRST_MOMENT = datetime(1990, 1, 1, tzinfo=UTC)
"""Spreadsheets and databases make 1900 and 1970 of an empty cell."""
_LAST_MILLISECOND = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp() * 1000)
_SHOWN_LINES = 5


CHOSEN, DRAWN = "chosen", "lot"
"""Why somebody looked at a photo of a worklist: it was chosen because it is difficult, or drawn by lot from all."""


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
    chosen: str = ""
    """CHOSEN, DRAWN, or empty: no worklist had a part in it."""


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
        for statement in sorted(statements, key=lambda statement: statement.at):
            before = current.get(statement.prediction_id)
            if before and before.label == statement.label:
                repeated += 1
                if before.chosen == CHOSEN != statement.chosen:  # it was looked at for another reason too
                    current[statement.prediction_id] = replace(before, chosen=statement.chosen)
                continue
            if before:
                contradicted.add(statement.prediction_id)
            current[statement.prediction_id] = statement
        return cls(current, repeated, len(contradicted))

    def representative(self) -> "Labels":
        """Without those of photos that were chosen because they are difficult: they would tell that all answers are worse."""
        return replace(self, current={name: label for name, label in self.current.items() if label.chosen != CHOSEN})


@dataclass(frozen=True)
class Imported:
    """What became of labels."""

    taken: int
    """Of predictions on record"""
    refused: list[str]
    """Line and what is wrong with it, of each row that was not taken"""
    waiting: list[str] = field(default_factory=list)
    """Ids of no prediction that is on record (yet): their labels are kept, and join when it comes"""


class LabelBook:
    """The labels of one model, all versions."""

    def __init__(self, storage: Storage, model: str) -> None:
        self._storage = storage
        self._model = model
        self._folder = f"{model}/_labels"

    def add(self, prediction_id: str, label: str, by: str, at: datetime) -> Imported:
        """Keep one label. Raises FeedbackError if it names no class, or the id is none of a prediction."""
        labels, problems = self._checked([(0, {"prediction_id": prediction_id, "label": label})], by, at)
        if problems:
            raise FeedbackError(problems[0])
        return self._keep(labels, [])

    def import_file(self, path: Path, by: str, at: datetime) -> Imported:
        """Keep the labels of a table (CSV, .xlsx, Parquet); a wrong row costs only itself.

        Columns `prediction_id` and `label`; `by` and `at` (ISO 8601, not after now) where they differ from the arguments;
        `chosen` (`chosen`, `lot` or empty), as a worklist writes it.
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
        return self._keep(labels, refused)

    def read(self) -> Labels:
        """Every label kept so far."""
        return Labels.of(self.statements())

    def statements(self) -> list[Label]:
        """All that was ever said, as it was said."""
        statements: list[Label] = []
        for name, entry in self._storage.entries(self._folder).items():
            path = f"{self._folder}/{name}"
            try:
                content = read_bytes(self._storage, path)
            except FileNotFoundError:  # set aside by somebody else since it was listed
                continue
            except StateFileError as error:
                _logger.error("Labels are left out: %s", error)
                continue
            labels, wrong = _readable(content)
            if wrong or not labels:
                self._salvage(path, labels, wrong)
            written = datetime.fromtimestamp(entry.modified, UTC)
            # Earlier releases took any time: one after the label was kept would outrank whatever corrects it.
            statements += [label if label.at <= written + _CLOCKS_DIFFER else replace(label, at=written) for label in labels]
        return statements

    def classes(self) -> set[str]:
        """The classes of the model's versions, as far as their records are in the store."""
        return {name for snapshot in self._snapshots() for name in snapshot.classes}

    def _snapshots(self) -> list[StoreSnapshot]:
        """Of the model's versions; one that cannot be read is named and left out."""
        snapshots = []
        for store in find_stores(self._storage):
            if store.model == self._model:
                try:
                    snapshots.append(store.snapshot())
                except (StoreError, StateFileError, OSError) as error:
                    _logger.error("%s version %s is left out: %s", store.model, store.version, error)
        return snapshots

    def _checked(self, rows: Iterable[tuple[Any, _Row]], by: str, at: datetime) -> tuple[list[Label], dict[int, str]]:
        """(line, row) -> labels, and line -> what is wrong. Raises FeedbackError where the model's classes are not known."""
        classes = self.classes()
        if not classes:
            raise FeedbackError(
                f"The classes of {self._model} are not known: {self._storage.location} holds no records of it that were "
                "ingested. Run `drift_job.py run` first, or check INFERENCE_LOG_DIR and the model's name."
            )
        labels, problems = [], {}
        for line, row in rows:
            try:
                labels.append(_label(row, by, at, classes))
            except FeedbackError as error:
                problems[line] = str(error)
        return labels, problems

    def _keep(self, labels: list[Label], refused: list[str]) -> Imported:
        self._write(labels)
        ids = dict.fromkeys(label.prediction_id for label in labels)
        known = known_ids(self._snapshots(), ids)
        taken = sum(label.prediction_id in known for label in labels)
        return Imported(taken, refused, [missing for missing in ids if missing not in known])

    def _write(self, labels: list[Label], beside: str = "") -> None:
        """beside: a file that is not to be replaced, even if its name says that it holds just these labels."""
        data = "".join(json.dumps(_fields(label)) + "\n" for label in labels).encode()
        path = f"{self._folder}/{hashlib.sha256(data).hexdigest()[:32]}.ndjson"
        self._storage.write(path if path != beside else path.replace(".ndjson", "-read.ndjson"), data)

    def _salvage(self, path: str, labels: list[Label], wrong: list[int]) -> None:
        shown = ", ".join(map(str, wrong[:_SHOWN_LINES])) + (" and others" if len(wrong) > _SHOWN_LINES else "")
        lines = f"line {shown or 1}"
        try:
            if labels:
                self._write(labels, beside=path)
            set_aside(self._storage, path, ValueError(f"{lines}: no label"), f"Its other {len(labels)} labels count.")
        except (OSError, StateFileError) as error:
            _logger.error("%s, %s: no label (%s). Its other %d labels count.", path, lines, error, len(labels))


def _fields(label: Label) -> dict[str, str]:
    """As they are kept; releases before worklists know no `chosen`, so that it stands only where it says something."""
    fields = vars(label) | {"at": label.at.isoformat()}
    return fields if label.chosen else {name: value for name, value in fields.items() if name != "chosen"}


def known_ids(stores: Iterable[StoreSnapshot], ids: Iterable[str]) -> set[str]:
    """Those of the prediction ids, in the form that `prediction_uuid` gives, that are on record."""
    times = [time_of(prediction_id) for prediction_id in ids]
    if not times:
        return set()
    wanted, known = pa.array(ids, pa.string()), set[str]()
    start, end = min(times) - BETWEEN_ID_AND_RECORD, max(times) + BETWEEN_ID_AND_RECORD
    for snapshot in stores:
        for batch in snapshot.read_batches(["prediction_id"], start=start, end=end) if snapshot.classes else ():
            column = batch["prediction_id"]
            known.update(column.filter(pc.is_in(column, value_set=wanted)).to_pylist())
    return known


def prediction_uuid(text: object) -> UUID:
    """The id of a prediction (a UUIDv7) in any form of writing: braces, upper case, without dashes. Raises FeedbackError."""
    try:
        number = UUID(str(text).strip())
    except ValueError:
        number = None
    if number is None or number.version != 7 or number.int >> 80 > _LAST_MILLISECOND:
        raise FeedbackError(f"prediction_id={text!r} is not one. Expected the UUID that the answer holds.")
    return number


def time_of(prediction_id: str) -> datetime:
    """When a prediction was made, to the millisecond, as its id says. Raises FeedbackError for any other text."""
    return datetime.fromtimestamp((prediction_uuid(prediction_id).int >> 80) / 1000, UTC)


def _readable(content: bytes) -> tuple[list[Label], list[int]]:
    """The labels of a file, and the numbers of the lines that are none."""
    labels, wrong = [], []
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            texts = {name: fields[name] for name in ("label", "by")}
            if not all(isinstance(text, str) for text in texts.values()):
                raise TypeError
            at = _utc(datetime.fromisoformat(fields["at"]))
            chosen = _why_chosen(fields.get("chosen"))
            labels.append(Label(str(prediction_uuid(fields["prediction_id"])), **texts, at=at, chosen=chosen))
        except (ValueError, KeyError, TypeError):
            wrong.append(number)
    return labels, wrong


def _label(row: _Row, by: str, at: datetime, classes: set[str]) -> Label:
    prediction_id = str(prediction_uuid(row["prediction_id"] or ""))
    label = str(row["label"] or "").strip()
    if label not in classes:
        raise FeedbackError(f"label={label!r} is not a class of this model. Expected one of {', '.join(sorted(classes))}.")
    chosen = _why_chosen(row.get("chosen"))
    return Label(prediction_id, label, str(row.get("by") or by), _moment(row.get("at") or at), chosen)


def _why_chosen(value: object) -> str:
    """Raises FeedbackError for a word that no worklist writes."""
    text = str(value or "").strip()
    if text not in ("", CHOSEN, DRAWN):
        raise FeedbackError(f"chosen={text!r} is not known. Expected {CHOSEN}, {DRAWN}, or nothing.")
    return text


def _moment(value: Any) -> datetime:
    """When something was said. Raises FeedbackError for what is no time, or one at which nothing can have been said."""
    try:
        moment = datetime.fromisoformat(value.strip() if isinstance(value, str) else value.isoformat())
    except (ValueError, AttributeError) as error:
        raise FeedbackError(f"at={value!r} is not a time. Expected ISO 8601, as 2026-03-01T12:00:00Z.") from error
    moment = _utc(moment)
    if not _FIRST_MOMENT <= moment <= datetime.now(UTC) + _CLOCKS_DIFFER:
        raise FeedbackError(
            f"at={value!r} is {'in the future' if moment > _FIRST_MOMENT else 'too long ago'}: a label cannot have been given "
            "then. A time without an offset is UTC; write yours as 2026-03-01T09:00:00-03:00."
        )
    return moment


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
