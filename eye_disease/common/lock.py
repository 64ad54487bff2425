"""One run at a time."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eye_disease.common.errors import BusyError


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Inside, no other process is in such a block with the same folder. The kernel frees the lock of a killed process.

    Raises BusyError at once if another process is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock"
    with path.open("a+", errors="replace") as file, _opened(folder) as itself:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _lock_folder(itself)
        except BlockingIOError:
            file.seek(0)
            holder = (re.match(r"\d+", file.read(20)) or ["unknown"])[0]
            raise BusyError(f"Another run is in progress (process {holder} holds {path}); this one ends.") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock_folder(descriptor: int) -> None:
    """Lock the folder itself too, for somebody may delete the file while a run holds it. Raises BlockingIOError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # NFS locks no folders; the file is locked
        return
