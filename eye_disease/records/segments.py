"""Segments: the files that served models append to, and which of them their writers have left.

A writer holds a lock (flock) on the segment that it appends to, from before its first line until it moves to another one or
ends, however it ends. That lock decides, and nobody's clock. It says nothing where it cannot be seen: in an object store, on
a file system of several hosts that does not share locks, of an earlier release's writer. Such a segment is closed once the
same process has written to another one after it, or it was silent for a day by the clock of the storage, which stamps every
file. One that bears no served model's name was brought here by somebody, and nobody writes to it: it is closed two hours
after its hour. A closed segment is removed under its lock and at its known size only: lines that come late are not lost.
"""

import fcntl
import os
import re
import socket
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from eye_disease.records.storage import Entry, Storage

SILENCE_SECONDS = 24 * 3600
"""Without a line, where nothing else tells that a writer is gone."""
_NAME = re.compile(r"(\d{8}T\d\d)-(.+?)(\.\d+)?\.jsonl(\.\d+)?")
"""Hour, process, number of a further file of that hour, number that a log rotation has given."""
_LOG_LIKE = re.compile(r".*\.jsonl(\..+)?|.*\.(gz|zst|bz2|xz|zip)")
_PROCESS = re.compile(r"(?P<host>.+)-\d+-([0-9a-f]{8}|(?P<locks>[0-9a-f]{12}))")
"""As `model_code.inference_log` names a process; up to the release that began to lock, with 8 digits at the end."""
_IMPORTED_AFTER = timedelta(hours=2)


@dataclass(frozen=True)
class Segment:
    """As a listing shows it."""

    name: str
    hour: datetime
    """By the writer's clock, when it began the file; UTC"""
    process: str
    size: int
    """Bytes"""
    modified: float
    """By the storage's clock, seconds since 1970"""
    imported: bool
    """Of no served model's process"""
    own: bool
    """Of a process of this host that locks: here its lock is seen, and the file's time is that of its last line"""


class Segments:
    """Those of one version's folder, as they were when this was made. Raises OSError."""

    def __init__(self, storage: Storage, folder: str, now: datetime) -> None:
        """now: by the reader's clock, for imported segments."""
        self._storage, self._folder, self._now = storage, folder, now
        self._storage_now: float | None = None
        self.listed: list[Segment] = []
        self.not_read: list[str] = []
        """Files that look like parts of the log and are none that can be read"""
        for name, entry in storage.entries(folder).items():
            segment = _parsed(name, entry)
            if segment is not None:
                self.listed.append(segment)
            elif _LOG_LIKE.fullmatch(name):
                self.not_read.append(name)

    def closed(self, segment: Segment) -> Segment | None:
        """The segment as its writer has left it; None while the writer may go on."""
        locked = _is_locked(self._storage, self._path(segment))
        if locked or not ((locked is False and segment.own) or self._is_left(segment)):
            return None
        entry = self._storage.entry(self._path(segment))  # its size was listed before its lock was seen to be free
        return replace(segment, size=entry.size, modified=entry.modified) if entry else None

    def remove(self, name: str, size: int) -> bool:
        """Remove a closed segment of which `size` bytes were ingested; False if there is more, or its writer is back."""
        path = f"{self._folder}/{name}"
        local = self._storage.local_path(path)
        try:
            if local is None:
                return self._remove_at(path, size)
            with local.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                except OSError:  # no locks on this file system
                    return self._remove_at(path, size)
                return os.fstat(file.fileno()).st_nlink > 0 and self._remove_at(path, size)
        except FileNotFoundError:
            return True

    def _remove_at(self, path: str, size: int) -> bool:
        entry = self._storage.entry(path)
        if entry is None or entry.size != size:
            return entry is None
        self._storage.remove(path)
        return True

    def _is_left(self, segment: Segment) -> bool:
        if segment.imported:
            return self._now - segment.hour >= _IMPORTED_AFTER
        if any(other.process == segment.process and _age(other) > _age(segment) for other in self.listed):
            return True
        if self._storage_now is None:
            self._storage_now = self._storage.now()
        return self._storage_now - segment.modified >= SILENCE_SECONDS

    def _path(self, segment: Segment) -> str:
        return f"{self._folder}/{segment.name}"


def _age(segment: Segment) -> tuple[float, str]:
    return segment.modified, segment.name


def _is_locked(storage: Storage, path: str) -> bool | None:
    """Whether a writer holds the segment's lock; None where that cannot be seen."""
    local = storage.local_path(path)
    if local is None:
        return None
    try:
        with local.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _parsed(name: str, entry: Entry) -> Segment | None:
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        hour = datetime.strptime(match[1], "%Y%m%dT%H").replace(tzinfo=UTC)
    except ValueError:  # no such day
        return None
    process = _PROCESS.fullmatch(match[2])
    own = process is not None and process["locks"] is not None and process["host"] == socket.gethostname()
    return Segment(name, hour, match[2], entry.size, entry.modified, process is None, own)
