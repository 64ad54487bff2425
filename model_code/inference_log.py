"""The record of every answer: JSON lines, on disk before the answer leaves.

Each process writes its own file an hour, one `O_APPEND` write a request, so lines never mix and a killed process loses no
answered prediction. (The operating system holds the lines; only a power failure can lose the last seconds.)
A process locks (flock) the file that it appends to, and the kernel frees that lock when the process ends, however it
ends: so the drift job knows which files are still written to, whatever the clocks say.
"""

import errno
import fcntl
import json
import logging
import os
import socket
import threading
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from uuid_utils import uuid7

from model_code.errors import InferenceLogError

_logger = logging.getLogger(__name__)


class InferenceLog:
    """Appends records below `folder`; safe for threads and after a fork.

    required: raise InferenceLogError when records cannot be written. Otherwise the answer goes out, a warning is logged,
    and the next record that can be written carries the number of lost ones.
    """

    def __init__(self, folder: Path, required: bool) -> None:
        self._folder = folder
        self._required = required
        self._hour, self._file = "", -1
        self._sequence = self._lost = 0
        self._lock = threading.Lock()
        self._start_process()
        os.register_at_fork(after_in_child=self._start_process)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._refuse_or_warn(error, 0)

    def append(self, records: list[dict[str, Any]]) -> None:
        """Write one line a record, adding `timestamp`, `process_id`, `sequence` and `lost_records`. All or nothing."""
        if not records:
            return
        with self._lock:
            now = datetime.now(UTC)
            stamp = {"timestamp": now.isoformat(timespec="microseconds"), "process_id": self._process_id}
            lines = [
                json.dumps(
                    {**stamp, "sequence": self._sequence + i, "lost_records": self._lost if i == 0 else 0, **record},
                    allow_nan=False,
                )
                for i, record in enumerate(records)
            ]
            try:
                self._write(now.strftime("%Y%m%dT%H"), ("\n".join(lines) + "\n").encode())
            except OSError as error:
                self._close()
                self._refuse_or_warn(error, len(records))
                self._lost += len(records)
            else:
                self._lost = 0
            self._sequence += len(records)

    def _start_process(self) -> None:
        """A process has a name of its own and counts from 0: a gap in its sequence is a loss."""
        self._close()  # the parent's file, whose lock must not outlive the parent in a child
        # The drift job takes the twelve digits for a sign that this process locks its file: earlier releases had eight.
        self._process_id = f"{socket.gethostname()}-{os.getpid()}-{str(uuid7())[-12:]}"
        self._sequence = 0
        self._lost = 0
        self._lock = threading.Lock()

    def _write(self, hour: str, data: bytes) -> None:
        if hour != self._hour:
            self._open(hour)
        self._append(data)
        if os.fstat(self._file).st_nlink == 0:  # somebody has deleted the file, and the lines with it
            self._open(hour)
            self._append(data)

    def _append(self, data: bytes) -> None:
        written = os.write(self._file, data)
        if written < len(data):
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _open(self, hour: str) -> None:
        """A file of that hour that nobody else holds: the drift job does while it removes one that this process had left."""
        self._close()
        self._folder.mkdir(parents=True, exist_ok=True)
        names = (f"{hour}-{self._process_id}{f'.{number}' if number > 1 else ''}.jsonl" for number in count(1))
        for name in names:
            file = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
            if _lock(file):
                self._hour, self._file = hour, file
                return
            os.close(file)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._hour, self._file = "", -1

    def _refuse_or_warn(self, error: OSError, count: int) -> None:
        problem = f"The inference log in {self._folder} cannot be written: {error.strerror}."
        if self._required:
            raise InferenceLogError(f"{problem} INFERENCE_LOG_REQUIRED is set, so nothing is answered.") from error
        _logger.warning("%s %d answers go out without a record.", problem, count)


def _lock(file: int) -> bool:
    """Whether the file is this process's own from here on; where the file system knows no locks it is taken to be."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return os.fstat(file).st_nlink > 0  # or it was removed before it was locked
