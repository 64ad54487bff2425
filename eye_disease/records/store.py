"""The records of one model version as Parquet, and the state of their ingest.

<model>/<version>/*.jsonl                                  segments: what the served model writes
<model>/<version>/records/date=YYYY-MM-DD/<commit>.parquet records, by the UTC day of their timestamp
<model>/<version>/rejected/date=YYYY-MM-DD/<commit>.ndjson lines that are no records, by the day they were set aside
<model>/<version>/ingest.json                              IngestState

`ingest.json` is replaced as a whole, and a Parquet file with a higher commit than it names does not count: that makes a run
of ingest happen as a whole or not at all. Only files of the commit that it names as being written are ever removed for that;
without it, `eye_disease.records.rebuild` rebuilds it from the Parquet files.
"""

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as papq

from eye_disease.common.errors import UserError
from eye_disease.common.text import one_line
from eye_disease.records.ingest_state import LATER_FIELDS, IngestState
from eye_disease.records.lines import record_schema
from eye_disease.records.state_file import StateFileError, decode, encode, read_bytes, read_state
from eye_disease.records.storage import Storage
from model_code.identity import BUNDLED_VERSION, UNREGISTERED_VERSION

_logger = logging.getLogger(__name__)
_DAY_FOLDER = re.compile(r"date=(\d{4}-\d\d-\d\d)/(\d+)\.\w+(?:\.damaged(?:-\d+)?)?")
_VERSION = re.compile(rf"\d+|{BUNDLED_VERSION}|{UNREGISTERED_VERSION}")
_STATE_FILE = "ingest.json"
_warned: set[str] = set()
"""Folders that this process has warned of."""


class StoreError(UserError):
    """The store's own files are not as ingest leaves them."""


@dataclass(frozen=True)
class Part:
    """A Parquet file of records."""

    path: str
    """Relative to the storage."""
    day: date
    commit: int


@dataclass(frozen=True)
class StoreSnapshot:
    """What a store holds at one moment: read once, and handed on to all who work on a window."""

    store: "RecordStore"
    state: IngestState
    _parts: tuple[Part, ...]
    """Of every commit, in the order they came"""

    def snapshot(self) -> Self:
        """Itself: readers accept a store or a snapshot of it."""
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the version's records; empty before the first."""
        return self.state.classes

    @cached_property
    def schema(self) -> pa.Schema:
        """Column -> type of the version's records."""
        return record_schema(self.state.classes)

    def parts(self, after: int = 0, first: date = date.min, last: date = date.max) -> list[Part]:
        """Files of the commits after `after`, of the days from `first` to `last`, in the order they came."""
        return [part for part in self._parts if after < part.commit <= self.state.commit and first <= part.day <= last]

    def count(self, after: int = 0) -> int:
        """How many records there are of the commits after `after`, canaries included; damaged files have none."""
        return sum(self.store.rows(part) for part in self.parts(after))

    def read_batches(
        self,
        columns: list[str],
        *,
        after: int = 0,
        start: datetime | None = None,
        end: datetime | None = None,
        canary: bool = False,
        rows: int = 65_536,
    ) -> Iterator[pa.RecordBatch]:
        """Stream `columns` of the records, `rows` at a time, in the order they came in; memory does not grow with their number.

        A damaged file is named, set aside and left out. after: only commits after this one. start, end: only timestamps from
        `start` on and before `end`. canary: also the health probe's own photo. Raises KeyError for an unknown column,
        StoreError for a file that cannot be read.
        """
        first, last = start.astimezone(UTC).date() if start else date.min, end.astimezone(UTC).date() if end else date.max
        if unknown := set(columns) - set(self.schema.names):
            raise KeyError(f"{self.store.folder} has no column {sorted(unknown)}. Its columns: {', '.join(self.schema.names)}")
        compared = ["canary"] * (not canary) + ["timestamp"] * (start is not None or end is not None)
        needed = pa.schema([self.schema.field(name) for name in dict.fromkeys([*columns, *compared])])
        for part in self.parts(after, first, last):
            for batch in self.store.read_part(part, needed, rows):
                chosen = batch
                if not canary:
                    chosen = chosen.filter(pc.invert(chosen["canary"]))
                if start is not None:
                    chosen = chosen.filter(pc.greater_equal(chosen["timestamp"], start))
                if end is not None:
                    chosen = chosen.filter(pc.less(chosen["timestamp"], end))
                if chosen.num_rows:
                    yield chosen.select(columns)


class RecordStore:
    """The store of one version. Only one process may write to it at a time."""

    def __init__(self, storage: Storage, model: str, version: str) -> None:
        self.storage = storage
        self.model, self.version = model, version
        self.folder = f"{model}/{version}"

    def snapshot(self) -> StoreSnapshot:
        """What the store holds now. Raises StoreError, StateFileError, OSError."""
        parts = sorted(self.all_parts("records"), key=lambda part: (part.commit, part.day))
        return StoreSnapshot(self, self.state(), tuple(parts))

    def state(self) -> IngestState:
        """What ingest has left. Raises StoreError if its file is damaged, StateFileError if it cannot be read."""
        try:
            return decode(read_bytes(self.storage, f"{self.folder}/{_STATE_FILE}"), IngestState, LATER_FIELDS)
        except FileNotFoundError:
            return IngestState()
        except StateFileError:
            raise
        except ValueError as error:
            path = f"{self.storage.location}/{self.folder}/{_STATE_FILE}"
            raise StoreError(
                f"{path} is damaged ({one_line(error, 200)}). `drift_job.py run` rebuilds it from the records."
            ) from error

    def take_state(self) -> IngestState | None:
        """As `state`, for the process that writes: None if there is no such file, or it was damaged and is set aside now."""
        cost = "What it held is rebuilt from the records, of which none is lost."
        return read_state(self.storage, f"{self.folder}/{_STATE_FILE}", IngestState, cost, LATER_FIELDS)

    def save(self, state: IngestState) -> None:
        """Make a state the one that holds: the moment of a commit."""
        self.storage.write(f"{self.folder}/{_STATE_FILE}", encode(asdict(state)))

    def part_path(self, day: str, commit: int) -> str:
        """Where a commit keeps the records of a day (YYYY-MM-DD)."""
        return f"{self.folder}/records/date={day}/{commit:08d}.parquet"

    def rejected_path(self, day: str, commit: int) -> str:
        """Where a commit keeps the lines that it has set aside."""
        return f"{self.folder}/rejected/date={day}/{commit:08d}.ndjson"

    def parts(self, after: int = 0, first: date = date.min, last: date = date.max) -> list[Part]:
        """As StoreSnapshot.parts, of this moment."""
        return self.snapshot().parts(after, first, last)

    def read_batches(self, columns: list[str], **wanted: Any) -> Iterator[pa.RecordBatch]:
        """As StoreSnapshot.read_batches, of this moment."""
        return self.snapshot().read_batches(columns, **wanted)

    def columns(self) -> list[str]:
        """Names of the columns that the version's records have."""
        return list(self.snapshot().schema.names)

    def remove_uncommitted(self, commit: int) -> None:
        """Remove what a killed run has left of the commit that it was writing; its lines are still in their segments."""
        self._remove(part for kind in ("records", "rejected") for part in self.all_parts(kind) if part.commit == commit)

    def expire(self, keep_days: int, now: datetime) -> None:
        """Remove records and rejected lines older than `keep_days` whole days, set aside or not."""
        oldest = now.astimezone(UTC).date() - timedelta(days=keep_days)
        kinds = ("records", "rejected")
        self._remove(part for kind in kinds for part in self.all_parts(kind, set_aside=True) if part.day < oldest)

    def read_part(self, part: Part, schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
        """A file's columns of `schema`, null where it is older than the column. A damaged file is set aside.

        File by file and not as a pyarrow dataset, which reads ahead of a slow consumer by a gigabyte. Raises StoreError.
        """
        path = self.storage.full(part.path)
        try:
            with papq.ParquetFile(path, filesystem=self.storage.filesystem, pre_buffer=False) as file:
                yield from _batches(file, schema, rows)
        except FileNotFoundError:  # expired since it was listed, or set aside by somebody else, who has said so
            return
        except (pa.ArrowException, OSError) as error:
            self.set_aside_if_damaged(part, schema, error)

    def rows(self, part: Part) -> int:
        """Records of a file, as its footer says; 0 if it is damaged, which is seen when it is read."""
        try:
            return int(papq.read_metadata(self.storage.full(part.path), filesystem=self.storage.filesystem).num_rows)
        except (pa.ArrowException, OSError):
            return 0

    def set_aside_if_damaged(self, part: Part, schema: pa.Schema, error: Exception) -> None:
        """Raises StoreError if it is not the file's content that is at fault: no right to read it, no connection."""
        try:
            content = pa.BufferReader(self.storage.read(part.path))
        except OSError as unreadable:
            raise StoreError(f"{self.storage.full(part.path)} cannot be read ({one_line(unreadable, 200)}).") from unreadable
        try:
            for _ in _batches(papq.ParquetFile(content), schema, 65_536):
                pass
        except (pa.ArrowException, OSError):
            target = self.storage.set_aside(part.path)
            _logger.error(
                "%s is damaged (%s). It is kept as %s, and its records are left out until it is restored from a backup.",
                self.storage.full(part.path),
                one_line(error, 200),
                target,
            )
            return
        raise StoreError(f"{self.storage.full(part.path)} cannot be read ({one_line(error, 200)}).") from error

    def all_parts(self, kind: str, set_aside: bool = False) -> Iterator[Part]:
        """Of `records` or `rejected`, whatever their commit. set_aside: damaged ones too."""
        for path in self.storage.entries(f"{self.folder}/{kind}", recursive=True, set_aside=set_aside):
            if match := _DAY_FOLDER.fullmatch(path):
                yield Part(f"{self.folder}/{kind}/{path}", date.fromisoformat(match[1]), int(match[2]))

    def _remove(self, parts: Iterable[Part]) -> None:
        for part in list(parts):
            self.storage.remove(part.path)


def _batches(file: papq.ParquetFile, schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
    names = [name for name in schema.names if name in file.schema_arrow.names]
    for batch in file.iter_batches(rows, columns=names):
        columns = [
            batch[wanted.name].cast(wanted.type) if wanted.name in names else pa.nulls(len(batch), wanted.type)
            for wanted in schema
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def find_stores(storage: Storage) -> list[RecordStore]:
    """A store for every version of every model in an inference log; other folders are left out, and warned of once.

    Raises OSError if the log itself cannot be read.
    """
    stores = []
    for model in storage.folders():
        try:
            versions = storage.folders(model)
        except OSError as error:
            warn_once(storage, model, f"cannot be read ({one_line(error, 200)}), and is left out")
            continue
        for version in versions:
            if _VERSION.fullmatch(version):
                stores.append(RecordStore(storage, model, version))
            elif version != "_labels":
                warn_once(storage, f"{model}/{version}", "is named like no version of a model, and is left out")
    return stores


def warn_once(storage: Storage, path: str, what: str) -> None:
    """Warn of something in a log, once in this process."""
    full = f"{storage.location}/{path}"
    if full not in _warned:
        _warned.add(full)
        _logger.warning("%s %s.", full, what)
