"""One run at a time."""

import fcntl
import os
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
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise BusyError(f"Another run is at work (process {holder} holds {path}). This one does nothing.") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
