"""A folder of files, on this machine or at a URL that pyarrow knows (`s3://bucket/logs`, `gs://...`)."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from eye_disease.common.errors import UserError

_TEMPORARY = ".partial"
_NO_CONTENT = re.compile(r".*(\.partial|\.damaged(-\d+)?)")
"""Files that are not complete, or were set aside."""


class StorageError(UserError):
    """A location that cannot be used."""


@dataclass(frozen=True)
class Entry:
    """A file, as a listing shows it."""

    size: int
    """Bytes"""
    modified: float
    """When it was last written, by the storage's own clock; seconds since 1970"""


class Storage:
    """Reads, writes and removes files below one location; every path is relative to it, with `/` between its parts.

    location: a local path or a URL. Credentials and endpoint come from the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL).
    Raises StorageError for a URL of an unknown kind.
    """

    def __init__(self, location: str) -> None:
        if "://" in location:
            try:
                self.filesystem, self.root = pafs.FileSystem.from_uri(location.rstrip("/"))
            except (pa.ArrowInvalid, ImportError) as error:
                raise StorageError(
                    f"INFERENCE_LOG_DIR={location!r} cannot be opened ({error}). Expected a local path or a URL such as s3://bucket/logs."
                ) from error
        else:
            self.filesystem, self.root = pafs.LocalFileSystem(), str(Path(location).absolute())
        self.location = location if "://" in location else self.root
        self._local = isinstance(self.filesystem, pafs.LocalFileSystem)

    def folders(self, path: str = "") -> list[str]:
        """Names of the folders directly below `path`, sorted; empty if there is no such folder."""
        return sorted(info.base_name for info in self._list(path, recursive=False) if info.type == pafs.FileType.Directory)

    def files(self, path: str, recursive: bool = False) -> dict[str, int]:
        """Path relative to `path` -> bytes, of the files below it, sorted; empty if there is no such folder."""
        return {name: entry.size for name, entry in self.entries(path, recursive).items()}

    def entries(self, path: str, recursive: bool = False, set_aside: bool = False) -> dict[str, Entry]:
        """As `files`, with the time of each. set_aside: those that `set_aside` has renamed too."""
        prefix = len(self.full(path)) + 1
        hidden = re.compile(rf".*{re.escape(_TEMPORARY)}") if set_aside else _NO_CONTENT
        files = (info for info in self._list(path, recursive) if info.is_file and not hidden.fullmatch(info.base_name))
        return {info.path[prefix:]: _entry(info) for info in sorted(files, key=lambda info: info.path)}

    def entry(self, path: str) -> Entry | None:
        """One file as it is now; None if there is none."""
        (info,) = self.filesystem.get_file_info([self.full(path)])
        return _entry(info) if info.is_file else None

    def now(self) -> float:
        """What the storage's own clock says, seconds since 1970: that of the machine it is on, which writers need not share."""
        if self._local:
            Path(self.root).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as file:
                return os.fstat(file.fileno()).st_mtime
        probe = f"clock{_TEMPORARY}"
        self.write(probe, b"")
        entry = self.entry(probe)
        self.remove(probe)
        if entry is None:
            raise StorageError(f"{self.full(probe)} was written and is not there. Is {self.location} the right place?")
        return entry.modified

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        """The bytes of a file from `start` on, at most `length`. Raises FileNotFoundError."""
        with self.filesystem.open_input_file(self.full(path)) as file:
            file.seek(start)
            return bytes(file.read(length) if length is not None else file.read())

    def write(self, path: str, data: bytes) -> None:
        """Replace a file: whatever happens, it then holds the old bytes or the new ones, and the new ones last."""
        if not self._local:  # an object appears when it is complete
            with self.create(path) as file:
                file.write(data)
            return
        with self.create(path + _TEMPORARY) as file:
            file.write(data)
        target = Path(self.full(path))
        Path(self.full(path + _TEMPORARY)).replace(target)
        _sync_folder(target.parent)

    @contextmanager
    def create(self, path: str) -> Iterator[Any]:
        """A new file to write bytes to, on disk for good when the block ends; one cut short may stay behind."""
        if not self._local:
            with self.filesystem.open_output_stream(self.full(path)) as stream:
                yield stream
            return
        target = Path(self.full(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        # Records are about patients: not for everyone on the machine, as the log itself.
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(target.parent)

    def remove(self, path: str) -> None:
        """Remove a file. Raises FileNotFoundError."""
        self.filesystem.delete_file(self.full(path))

    def set_aside(self, path: str) -> str:
        """Rename a damaged file: it is kept, and read no more. Returns where it is now. Raises OSError."""
        free = (f"{path}.damaged{f'-{n}' if n > 1 else ''}" for n in count(1))
        target = next(name for name in free if self.entry(name) is None)
        self.filesystem.move(self.full(path), self.full(target))
        return self.full(target)

    def local_path(self, path: str) -> Path | None:
        """The file on this machine's file system; None for an object store."""
        return Path(self.full(path)) if self._local else None

    def full(self, path: str) -> str:
        """The path as `filesystem` wants it."""
        return f"{self.root}/{path}".rstrip("/")

    def _list(self, path: str, recursive: bool) -> list[pafs.FileInfo]:
        chosen = pafs.FileSelector(self.full(path), recursive=recursive, allow_not_found=True)
        return list(self.filesystem.get_file_info(chosen))


def _entry(info: pafs.FileInfo) -> Entry:
    return Entry(info.size, info.mtime_ns / 1e9)


def _sync_folder(folder: Path) -> None:
    """Make names in a folder last, not only the files' contents."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
