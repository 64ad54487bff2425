"""The records of one model version as Parquet, and what is known of how they came in.

<model>/<version>/*.jsonl                                  segments: what the served model writes
<model>/<version>/records/date=YYYY-MM-DD/<commit>.parquet records, by the UTC day of their timestamp
<model>/<version>/rejected/date=YYYY-MM-DD/<commit>.ndjson lines that are no records, by the day they were set aside
<model>/<version>/ingest.json                              IngestState

`ingest.json` is replaced at one blow, and a Parquet file with a higher commit than it names does not count: that makes a run
of ingest happen as a whole or not at all.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as papq

from eye_disease.common.errors import UserError
from eye_disease.records.lines import record_schema
from eye_disease.records.storage import Storage

_DAY_FOLDER = re.compile(r"date=(\d{4}-\d\d-\d\d)/(\d+)\.\w+")
_STATE_FILE = "ingest.json"


class StoreError(UserError):
    """The store's own files are not as ingest leaves them."""


@dataclass
class IngestState:
    """What ingest remembers of a version between runs."""

    commit: int = 0
    """The last commit; 0 before any."""
    classes: tuple[str, ...] = ()
    """Of the version's records; empty before the first."""
    offsets: dict[str, int] = field(default_factory=dict)
    """Open segment -> bytes taken in."""
    removing: dict[str, int] = field(default_factory=dict)
    """Closed segment, taken in and about to be removed -> its bytes."""
    sequences: dict[str, list[list[int]]] = field(default_factory=dict)
    """Process -> ranges of sequence numbers held."""
    records: int = 0
    """Records taken in so far, expired ones included."""
    missing: int = 0
    """Numbered by a process and not held."""
    lost_records: int = 0
    """Losses that the served model has told of itself (`lost_records`); among `missing`."""
    clock_jumps: int = 0
    """Records older than the one before them, or not of their segment's hour."""
    duplicates: int = 0
    """Records that were held already."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Reason -> lines set aside."""


@dataclass(frozen=True)
class Part:
    """A Parquet file of records."""

    path: str
    """Relative to the storage."""
    day: date
    commit: int


class RecordStore:
    """The store of one version. Only one process may write to it at a time."""

    def __init__(self, storage: Storage, model: str, version: str) -> None:
        self.storage = storage
        self.model, self.version = model, version
        self.folder = f"{model}/{version}"

    def state(self) -> IngestState:
        """What ingest has left. Raises StoreError if its file cannot be read."""
        try:
            stored = json.loads(self.storage.read(f"{self.folder}/{_STATE_FILE}"))
            return IngestState(**stored | {"classes": tuple(stored["classes"])})
        except FileNotFoundError:
            return IngestState()
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"{self.storage.location}/{self.folder}/{_STATE_FILE} is damaged ({error}). Restore it from a "
                "backup; without it records would count twice."
            ) from error

    def save(self, state: IngestState) -> None:
        """Make a state the one that holds: the moment of a commit."""
        self.storage.write(f"{self.folder}/{_STATE_FILE}", json.dumps(asdict(state)).encode())

    def part_path(self, day: str, commit: int) -> str:
        """Where a commit keeps the records of a day (YYYY-MM-DD)."""
        return f"{self.folder}/records/date={day}/{commit:08d}.parquet"

    def rejected_path(self, day: str, commit: int) -> str:
        """Where a commit keeps the lines that it has set aside."""
        return f"{self.folder}/rejected/date={day}/{commit:08d}.ndjson"

    def parts(self, after: int = 0, first: date = date.min, last: date = date.max) -> list[Part]:
        """Files of the commits after `after`, of the days from `first` to `last`, in the order they came."""
        newest = self.state().commit
        found = [part for part in self._all("records") if after < part.commit <= newest and first <= part.day <= last]
        return sorted(found, key=lambda part: (part.commit, part.day))

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

        after: only commits after this one. start, end: only timestamps from `start` on and before `end`.
        canary: also the health probe's own photo. Raises KeyError for an unknown column.
        """
        first, last = start.astimezone(UTC).date() if start else date.min, end.astimezone(UTC).date() if end else date.max
        schema = record_schema(self.state().classes)
        if unknown := set(columns) - set(schema.names):
            raise KeyError(f"{self.folder} has no column {sorted(unknown)}. Its columns: {', '.join(schema.names)}")
        compared = ["canary"] * (not canary) + ["timestamp"] * (start is not None or end is not None)
        needed = pa.schema([schema.field(name) for name in dict.fromkeys([*columns, *compared])])
        for part in self.parts(after, first, last):
            for batch in self._read(part, needed, rows):
                found = batch
                if not canary:
                    found = found.filter(pc.invert(found["canary"]))
                if start is not None:
                    found = found.filter(pc.greater_equal(found["timestamp"], start))
                if end is not None:
                    found = found.filter(pc.less(found["timestamp"], end))
                if found.num_rows:
                    yield found.select(columns)

    def columns(self) -> list[str]:
        """Names of the columns that the version's records have."""
        return record_schema(self.state().classes).names

    def remove_uncommitted(self) -> None:
        """Remove what a killed run has left behind."""
        newest = self.state().commit
        self._remove(part for kind in ("records", "rejected") for part in self._all(kind) if part.commit > newest)

    def expire(self, keep_days: int, now: datetime) -> None:
        """Remove records and rejected lines older than `keep_days` whole days."""
        oldest = now.astimezone(UTC).date() - timedelta(days=keep_days)
        self._remove(part for kind in ("records", "rejected") for part in self._all(kind) if part.day < oldest)

    def _read(self, part: Part, schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
        """The columns of `schema`, null where the file is older than the column.

        File by file and not as a pyarrow dataset, which reads ahead of a slow consumer by a gigabyte.
        """
        path = self.storage.full(part.path)
        with papq.ParquetFile(path, filesystem=self.storage.filesystem, pre_buffer=False) as file:
            held = [name for name in schema.names if name in file.schema_arrow.names]
            for batch in file.iter_batches(rows, columns=held):
                columns = [
                    batch[one.name].cast(one.type) if one.name in held else pa.nulls(len(batch), one.type) for one in schema
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def _all(self, kind: str) -> Iterator[Part]:
        for path in self.storage.files(f"{self.folder}/{kind}", recursive=True):
            if match := _DAY_FOLDER.fullmatch(path):
                yield Part(f"{self.folder}/{kind}/{path}", date.fromisoformat(match[1]), int(match[2]))

    def _remove(self, parts: Iterator[Part]) -> None:
        for part in list(parts):
            self.storage.remove(part.path)


def find_stores(storage: Storage) -> list[RecordStore]:
    """A store for every version of every model in an inference log."""
    return [
        RecordStore(storage, model, version)
        for model in storage.folders()
        for version in storage.folders(model)
        if not version.startswith("_") and not model.startswith((".", "_"))
    ]
