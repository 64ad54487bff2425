"""Moves the inference log's lines to Parquet: every record once, whatever kills a run and whenever."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as papq

from eye_disease.records.lines import REASONS, Rejected, find_classes, parse
from eye_disease.records.sequences import Sequences
from eye_disease.records.store import IngestState, RecordStore

_logger = logging.getLogger(__name__)
_SEGMENT = re.compile(r"(\d{8}T\d\d)-(.+)\.jsonl")
_CLOSED_AFTER = timedelta(hours=2)
"""From the start of a segment's hour on; the hour after it is for processes whose clocks differ."""
_CHUNK_BYTES = 16 * 2**20
_ROW_GROUP = 65_536
_CLOCK_TOLERANCE_US = 1_000_000
"""A clock may be set back by this much without being called a jump."""
_KEPT_OF_A_LINE = 65_536


@dataclass(frozen=True)
class Ingested:
    """What one run has done for one version."""

    before: IngestState
    after: IngestState

    @property
    def records(self) -> int:
        """Records taken in."""
        return self.after.records - self.before.records

    @property
    def rejected(self) -> dict[str, int]:
        """Reason -> lines set aside."""
        counts = {reason: count - self.before.rejected.get(reason, 0) for reason, count in self.after.rejected.items()}
        return {reason: count for reason, count in counts.items() if count}

    def problems(self) -> list[str]:
        """What the run found wrong, a sentence each."""
        found = [f"{count:,} lines set aside: {REASONS[reason]}." for reason, count in self.rejected.items()]
        if (missing := self.after.missing - self.before.missing) > 0:
            told = self.after.lost_records - self.before.lost_records
            found.append(f"{missing:,} records are missing from a process's sequence; {told:,} of them could not be written.")
        if jumps := self.after.clock_jumps - self.before.clock_jumps:
            found.append(f"{jumps:,} records have a time earlier than the one before, or not of their file's hour.")
        return found


def ingest(store: RecordStore, now: datetime, keep_days: int | None = None) -> Ingested:
    """Take in what the version's segments hold beyond the last run, remove closed segments, then expire old records.

    A run that is killed at any point changes nothing or all of what later runs and readers see. One run at a time: see
    `eye_disease.common.lock`. Raises StoreError, OSError.
    """
    store.remove_uncommitted()
    before = store.state()
    run = _Run(store, before, now)
    run.take_in()
    if run.state != before:
        store.save(run.state)
    for segment in run.state.removing:
        store.storage.remove(f"{store.folder}/{segment}")
    if run.state.removing:
        run.state = replace(run.state, removing={})
        store.save(run.state)
    if keep_days is not None:
        store.expire(keep_days, now)
    done = Ingested(before, run.state)
    for problem in done.problems():
        _logger.warning("%s version %s: %s", store.model, store.version, problem)
    return done


class _Run:
    """One run over a version's segments; `state` is what it will commit."""

    def __init__(self, store: RecordStore, before: IngestState, now: datetime) -> None:
        self.state = replace(before, offsets={}, removing={}, rejected=dict(before.rejected))
        self._before = before
        self._store = store
        self._now = now
        self._commit = before.commit + 1
        self._sequences = Sequences(before.sequences)
        self._latest: dict[str, int] = {}
        """Process -> latest time seen, microseconds."""

    def take_in(self) -> None:
        """Read every segment's new lines into the files of the next commit."""
        segments = self._store.storage.files(self._store.folder)
        with ExitStack() as stack:
            parts = _Parts(self._store, self._commit, f"{self._now:%Y-%m-%d}", stack)
            for name, size in segments.items():
                if match := _SEGMENT.fullmatch(name):
                    hour = datetime.strptime(match[1], "%Y%m%dT%H").replace(tzinfo=UTC)
                    self._read_segment(name, size, hour, parts)
            parts.finish()
        if parts.used:
            self.state.commit = self._commit
        self.state.sequences = self._sequences.as_json()
        self.state.missing = self._sequences.missing()

    def _read_segment(self, name: str, size: int, hour: datetime, parts: "_Parts") -> None:
        if self._before.removing.get(name) == size:
            self.state.removing[name] = size
            return
        closed = self._now - hour >= _CLOSED_AFTER
        offset = self._offset(name, size)
        for block in self._blocks(name, offset, size, closed):
            offset += len(block)
            self._take_block(name, hour, block, parts)
        (self.state.removing if closed and offset == size else self.state.offsets)[name] = offset

    def _offset(self, name: str, size: int) -> int:
        """Where to go on: the end of a line, or the start if the file is not the one that was read before."""
        offset = self._before.offsets.get(name, 0)
        whole = 0 < offset <= size and self._store.storage.read(f"{self._store.folder}/{name}", offset - 1, 1) == b"\n"
        return offset if whole else 0

    def _blocks(self, name: str, offset: int, size: int, closed: bool) -> Iterator[bytes]:
        """The segment's bytes from `offset` to `size`, in pieces that end with a line; the rest only if it is closed."""
        while offset < size:
            chunk = self._store.storage.read(f"{self._store.folder}/{name}", offset, min(_CHUNK_BYTES, size - offset))
            block = chunk[: chunk.rfind(b"\n") + 1]
            if not block and (closed or len(chunk) == _CHUNK_BYTES):
                block = chunk
            if not block:
                return
            offset += len(block)
            yield block

    def _take_block(self, name: str, hour: datetime, block: bytes, parts: "_Parts") -> None:
        self.state.classes = self.state.classes or find_classes(block) or ()
        table, rejected = parse(block, self.state.classes)
        if rejected and not block.endswith(b"\n"):
            rejected[-1] = replace(rejected[-1], reason="torn")
        for line in rejected:
            self.state.rejected[line.reason] = self.state.rejected.get(line.reason, 0) + 1
        parts.set_aside(name, rejected)
        new = table.filter(self._admit(table))
        self.state.duplicates += table.num_rows - new.num_rows
        self.state.records += new.num_rows
        self.state.lost_records += pc.sum(new["lost_records"]).as_py() or 0
        self.state.clock_jumps += self._clock_jumps(new, hour)
        parts.add(new)

    def _admit(self, table: pa.Table) -> pa.Array:
        """Per row: True if the record is not held yet."""
        processes = table["process_id"].to_numpy()
        sequence = table["sequence"].to_numpy()
        new = np.zeros(len(sequence), bool)
        for process in dict.fromkeys(processes):
            rows = processes == process
            new[rows] = self._sequences.admit(process, sequence[rows])
        return pa.array(new)

    def _clock_jumps(self, table: pa.Table, hour: datetime) -> int:
        times = table["timestamp"].cast(pa.int64()).to_numpy()
        processes = table["process_id"].to_numpy()
        start = int(hour.timestamp()) * 1_000_000
        odd = (times < start) | (times >= start + 3_600_000_000)
        for process in dict.fromkeys(processes):
            rows = processes == process
            latest = np.maximum.accumulate(np.concatenate([[self._latest.get(process, times[rows][0])], times[rows]]))
            odd[rows] |= times[rows] < latest[:-1] - _CLOCK_TOLERANCE_US
            self._latest[process] = int(latest[-1])
        return int(odd.sum())


class _Parts:
    """The files of a commit that is being written."""

    def __init__(self, store: RecordStore, commit: int, today: str, stack: ExitStack) -> None:
        self.used = False
        self._store, self._commit, self._today, self._stack = store, commit, today, stack
        self._writers: dict[str, papq.ParquetWriter] = {}
        self._waiting: dict[str, list[pa.Table]] = {}
        self._rejected: Any = None

    def add(self, table: pa.Table) -> None:
        """Add records, to the file of their day."""
        days = pc.strftime(table["timestamp"], "%Y-%m-%d")
        for day in pc.unique(days).to_pylist():
            waiting = self._waiting.setdefault(day, [])
            waiting.append(table.filter(pc.equal(days, day)))
            if sum(one.num_rows for one in waiting) >= _ROW_GROUP:
                self._flush(day)

    def set_aside(self, segment: str, lines: list[Rejected]) -> None:
        """Keep lines that are no records, with the reason."""
        if lines and self._rejected is None:
            self._rejected = self._create(self._store.rejected_path(self._today, self._commit))
        for line in lines:
            text = line.line[:_KEPT_OF_A_LINE].decode("utf-8", "backslashreplace")
            self._rejected.write(json.dumps({"segment": segment, "reason": line.reason, "line": text}).encode() + b"\n")

    def finish(self) -> None:
        """Write what is waiting. The files last once the exit stack has closed."""
        for day in list(self._waiting):
            self._flush(day)

    def _create(self, path: str) -> Any:
        self.used = True
        return self._stack.enter_context(self._store.storage.create(path))

    def _flush(self, day: str) -> None:
        if waiting := self._waiting.pop(day, None):
            table = pa.concat_tables(waiting)
            if day not in self._writers:
                file = self._create(self._store.part_path(day, self._commit))
                self._writers[day] = self._stack.enter_context(papq.ParquetWriter(file, table.schema, compression="zstd"))
            self._writers[day].write_table(table)
