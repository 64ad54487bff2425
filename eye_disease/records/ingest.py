"""Moves the inference log's lines to Parquet: every record once, whatever kills a run and whenever."""

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as papq

from eye_disease.common.progress import Progress
from eye_disease.common.text import clean, one_line
from eye_disease.records.ingest_state import IngestState, Sequences
from eye_disease.records.lines import REASONS, Rejected, find_classes, parse
from eye_disease.records.rebuild import current_state
from eye_disease.records.segments import Segment, Segments
from eye_disease.records.store import RecordStore, warn_once

_logger = logging.getLogger(__name__)
_CHUNK_BYTES = 16 * 2**20
_ROW_GROUP = 65_536
_CLOCK_TOLERANCE_US = 1_000_000
"""A clock may be set back by this much without being called a jump."""
_STORAGE_TOLERANCE_S = 60.0
"""A process's clock may differ by this much from the one that stamps its file."""
_LONGEST_LINE = 65_536


@dataclass(frozen=True)
class Ingested:
    """What one run has done for one version."""

    before: IngestState
    after: IngestState

    @property
    def records(self) -> int:
        """Records ingested."""
        return self.after.records - self.before.records

    @property
    def rejected(self) -> dict[str, int]:
        """Reason -> lines set aside."""
        counts = {reason: count - self.before.rejected.get(reason, 0) for reason, count in self.after.rejected.items()}
        return {reason: count for reason, count in counts.items() if count}

    def problems(self) -> list[str]:
        """What the run found wrong, a sentence each."""
        sentences = [f"{count:,} lines set aside: {REASONS[reason]}." for reason, count in self.rejected.items()]
        if (missing := self.after.missing - self.before.missing) > 0:
            unwritten = self.after.lost_records - self.before.lost_records
            sentences.append(
                f"{missing:,} records are missing from a process's sequence; {unwritten:,} of them could not be written."
            )
        if jumps := self.after.clock_jumps - self.before.clock_jumps:
            sentences.append(
                f"{jumps:,} records have a time earlier than the one before, not of their file's hour, or not that of their "
                "writing. Check the clocks."
            )
        return sentences


def ingest(store: RecordStore, now: datetime, keep_days: int | None = None, seen_commit: int = 0) -> Ingested:
    """Ingest what the version's segments hold beyond the last run, remove closed segments, then expire old records.

    A run that is killed at any point changes nothing or all of what later runs and readers see. One run at a time: see
    `eye_disease.common.lock`. seen_commit: the last commit that the caller knows of; a store whose state is lost resumes
    from there. Raises StoreError, StateFileError, OSError.
    """
    before = current_state(store, seen_commit)
    segments = Segments(store.storage, store.folder, now)
    for name in segments.not_read:
        warn_once(
            store.storage, f"{store.folder}/{name}", "is no file of the log that can be read, and is left alone: unpack it"
        )
    run = _Run(store, before, now, segments)
    run.read_segments()
    if run.state != before:
        store.save(run.state)
    if run.state.removing:
        not_removed = {name: size for name, size in run.state.removing.items() if not segments.remove(name, size)}
        run.state = replace(run.state, removing={}, offsets=run.state.offsets | not_removed)
        store.save(run.state)
    if keep_days is not None:
        store.expire(keep_days, now)
    result = Ingested(before, run.state)
    for problem in result.problems():
        _logger.warning("%s version %s: %s", store.model, store.version, problem)
    return result


class _Run:
    """One run over a version's segments; `state` is what it will commit."""

    def __init__(self, store: RecordStore, before: IngestState, now: datetime, segments: Segments) -> None:
        self.state = replace(before, offsets={}, removing={}, rejected=dict(before.rejected))
        self._before = before
        self._store = store
        self._now = now
        self._segments = segments
        self._commit = before.commit + 1
        self._sequences = Sequences(before.sequences)
        self._progress, self._read_bytes = Progress(), 0
        self._new_bytes = sum(segment.size - before.offsets.get(segment.name, 0) for segment in segments.listed)
        self._latest: dict[str, int] = {}
        """Process -> latest time seen, microseconds."""

    def read_segments(self) -> None:
        """Read every segment's new lines into the files of the next commit."""
        with ExitStack() as stack:
            parts = _Parts(self._store, self._before, f"{self._now:%Y-%m-%d}", stack)
            for segment in self._segments.listed:
                self._read_segment(segment, parts)
            parts.finish()
        if parts.used:
            self.state.commit = self._commit
        self.state.sequences = self._sequences.as_json()
        self.state.missing = max(self._sequences.missing() - self.state.unexplained, 0)

    def _read_segment(self, listed: Segment, parts: "_Parts") -> None:
        """A segment that cannot be read is named and waits; the others are read all the same."""
        if self._before.removing.get(listed.name) == listed.size:
            self.state.removing[listed.name] = listed.size
            return
        left = self._segments.closed(listed)
        segment = left or listed
        offset = self._before.offsets.get(listed.name, 0)
        try:
            offset = self._offset(segment.name, segment.size)
            for block in self._blocks(segment.name, offset, segment.size, left is not None):
                offset += len(block)
                self._read_bytes += len(block)
                self._progress(
                    f"Ingesting version {clean(self._store.version)}, kB", self._read_bytes // 1000, self._new_bytes // 1000
                )
                self._ingest_block(segment, block, offset == segment.size, parts)
        except FileNotFoundError:  # removed by somebody since it was listed
            return
        except OSError as error:
            path = self._store.storage.full(f"{self._store.folder}/{segment.name}")
            _logger.error("%s cannot be read (%s); its records wait there.", path, one_line(error, 200))
            left = None
        (self.state.removing if left and offset == segment.size else self.state.offsets)[segment.name] = offset

    def _offset(self, name: str, size: int) -> int:
        """Where to resume: the end of a line, or the start if the file is not the one that was read before."""
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

    def _ingest_block(self, segment: Segment, block: bytes, last: bool, parts: "_Parts") -> None:
        self.state.classes = self.state.classes or find_classes(block) or ()
        table, rejected = parse(block, self.state.classes)
        if rejected and not block.endswith(b"\n"):
            rejected[-1] = replace(rejected[-1], reason="torn")
        for line in rejected:
            self.state.rejected[line.reason] = self.state.rejected.get(line.reason, 0) + 1
        parts.set_aside(segment.name, rejected)
        new = table.filter(self._admit(table))
        self.state.duplicates += table.num_rows - new.num_rows
        self.state.records += new.num_rows
        self.state.lost_records += pc.sum(new["lost_records"]).as_py() or 0
        self.state.clock_jumps += self._clock_jumps(new, segment, last)
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

    def _clock_jumps(self, table: pa.Table, segment: Segment, last: bool) -> int:
        """How many new records were stamped by a clock that has jumped, or is not that of the disk. last: of the segment."""
        if not table.num_rows:
            return 0
        times = table["timestamp"].cast(pa.int64()).to_numpy()
        ahead = times[-1] / 1e6 - segment.modified
        if ahead > _STORAGE_TOLERANCE_S or (last and segment.own and ahead < -_STORAGE_TOLERANCE_S):
            return int(table.num_rows)
        processes = table["process_id"].to_numpy()
        start = int(segment.hour.timestamp()) * 1_000_000
        odd = (times < start) | (times >= start + 3_600_000_000)
        for process in dict.fromkeys(processes):
            rows = processes == process
            latest = np.maximum.accumulate(np.concatenate([[self._latest.get(process, times[rows][0])], times[rows]]))
            odd[rows] |= times[rows] < latest[:-1] - _CLOCK_TOLERANCE_US
            self._latest[process] = int(latest[-1])
        return int(odd.sum())


class _Parts:
    """The files of a commit that is being written."""

    def __init__(self, store: RecordStore, before: IngestState, today: str, stack: ExitStack) -> None:
        self.used = False
        self._store, self._before, self._today, self._stack = store, before, today, stack
        self._commit = before.commit + 1
        self._writers: dict[str, papq.ParquetWriter] = {}
        self._waiting: dict[str, list[pa.Table]] = {}
        self._rejected: Any = None

    def add(self, table: pa.Table) -> None:
        """Add records, to the file of their day."""
        days = pc.strftime(table["timestamp"], "%Y-%m-%d")
        for day in pc.unique(days).to_pylist():
            waiting = self._waiting.setdefault(day, [])
            waiting.append(table.filter(pc.equal(days, day)))
            if sum(table.num_rows for table in waiting) >= _ROW_GROUP:
                self._flush(day)

    def set_aside(self, segment: str, lines: list[Rejected]) -> None:
        """Keep lines that are no records, with the reason."""
        if lines and self._rejected is None:
            self._rejected = self._create(self._store.rejected_path(self._today, self._commit))
        for line in lines:
            text = line.line[:_LONGEST_LINE].decode("utf-8", "backslashreplace")
            self._rejected.write(json.dumps({"segment": segment, "reason": line.reason, "line": text}).encode() + b"\n")

    def finish(self) -> None:
        """Write what is waiting. The files last once the exit stack has closed."""
        for day in list(self._waiting):
            self._flush(day)

    def _create(self, path: str) -> Any:
        if not self.used:  # from here on, what is there of this commit may be removed by the next run
            self._store.save(replace(self._before, writing=self._commit))
        self.used = True
        return self._stack.enter_context(self._store.storage.create(path))

    def _flush(self, day: str) -> None:
        if waiting := self._waiting.pop(day, None):
            table = pa.concat_tables(waiting)
            if day not in self._writers:
                file = self._create(self._store.part_path(day, self._commit))
                self._writers[day] = self._stack.enter_context(papq.ParquetWriter(file, table.schema, compression="zstd"))
            self._writers[day].write_table(table)
