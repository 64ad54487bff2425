"""Copies of model versions on this machine: each whole, and known to answer its canary photo.

Beside a copy lies its receipt, `<copy>.json`, with the SHA-256 of every file: a copy that does not match it is set aside, not
served. `last_good.json` names the copy that was last taken from Production, `last_good.staging.json` that from Staging;
`.last_good.json` is the same once more, for when the first is lost. Whichever of these is damaged is set aside and named, and
costs a download at most.
"""

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eye_disease.common.errors import EyeDiseaseError
from eye_disease.common.model_process import require_canary
from model_code.package import file_sha256

_logger = logging.getLogger(__name__)
_INCOMING = "incoming-"
_DAMAGED = ".damaged"
_ABANDONED_AFTER_SECONDS = 3600


@dataclass(frozen=True)
class Copy:
    """A model folder in the cache."""

    folder: Path
    version: str


class ModelCache:
    """The copies of one model. No method raises OSError: a cache that cannot be used costs its use only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, key: str) -> Path | None:
        """The copy of that name, if it is there and whole."""
        folder = self._folder / key
        if not os.path.lexists(folder):
            return None
        try:
            _require_whole(folder, self._receipt(key))
        except (EyeDiseaseError, ValueError, OSError) as error:
            _set_aside(folder, str(error))
            return None
        return folder

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """An empty folder to make a copy in; removed afterwards, with whatever `add` has not taken."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(self._folder)
            folder = tempfile.mkdtemp(prefix=_INCOMING, dir=self._folder)
        except OSError as error:
            folder = tempfile.mkdtemp(prefix=_INCOMING)
            _logger.warning("No model can be kept in %s (%s).", self._folder, error)
        try:
            yield Path(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def add(self, key: str, source: Path) -> Path:
        """Take a model folder that has been checked; where it cannot be kept, a temporary folder holds it until a restart."""
        target = self._folder / key
        try:
            if os.path.lexists(target) and self.find(key) is not None:  # another process was first with the same content
                return target
            _write(self._receipt(key), {"files": _digests(source)})  # first, so that no copy is ever without
            source.rename(target)
        except OSError as error:
            if target.is_dir() and self.find(key) is not None:
                return target
            target = Path(tempfile.mkdtemp(prefix="model-")) / key
            _logger.warning("%s cannot be kept in %s (%s). It is served from %s.", key, self._folder, error, target)
            shutil.move(source, target)
        return target

    def remember(self, stage: str, key: str, version: str) -> None:
        """Make a copy the last good one of a stage."""
        if not (self._folder / key).is_dir():  # it could not be kept
            return
        pointer = self._pointer(stage)
        self._read_pointer(stage)  # sets a damaged one aside
        try:
            _write(pointer, {"folder": key, "version": version, "resolved_at": datetime.now(UTC).isoformat()})
            _write(_backup(pointer), {"folder": key, "version": version})
        except OSError as error:
            _logger.warning("%s cannot be written (%s).", pointer, error)

    def last_good(self, stage: str) -> Copy | None:
        """The copy that was last remembered for a stage, if it is still whole."""
        copy = self._read_pointer(stage)
        if copy is None or (folder := self.find(copy.folder.name)) is None:
            return None
        return Copy(folder, copy.version)

    def _read_pointer(self, stage: str) -> Copy | None:
        pointer = self._pointer(stage)
        for path in (pointer, _backup(pointer)):
            if not os.path.lexists(path):
                continue
            try:
                stored = json.loads(path.read_text())
                key, version = stored["folder"], stored["version"]
                if not (isinstance(version, str) and isinstance(key, str) and key == Path(key).name):
                    raise ValueError(f"folder={key!r}, version={version!r} name no copy")
                return Copy(self._folder / key, version)
            except (OSError, ValueError, KeyError, TypeError) as error:
                _set_aside(path, f"{type(error).__name__}: {error}")
        return None

    def _receipt(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _pointer(self, stage: str) -> Path:
        return self._folder / ("last_good.json" if stage == "Production" else f"last_good.{stage.lower()}.json")


def _require_whole(folder: Path, receipt: Path) -> None:
    """Raises OSError, ValueError, EyeDiseaseError if the copy is not what was put there."""
    expected = _read_receipt(receipt)
    if expected is None:  # of an earlier release, or its receipt is damaged
        require_canary(folder)
        _write(receipt, {"files": _digests(folder)})
        return
    wrong = [name for name, sha256 in expected.items() if file_sha256(folder / name) != sha256]
    if wrong:
        raise ValueError(f"{', '.join(wrong[:3])} changed after it was put there")


def _read_receipt(path: Path) -> dict[str, str] | None:
    if not os.path.lexists(path):
        return None
    try:
        files: dict[str, str] = json.loads(path.read_text())["files"]
        if not (isinstance(files, dict) and files and all(isinstance(sha256, str) for sha256 in files.values())):
            raise ValueError("it lists no files")
        return files
    except (OSError, ValueError, KeyError, TypeError) as error:
        _set_aside(path, f"{type(error).__name__}: {error}")
        return None


def _digests(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256. Compiled modules, which Python adds when it pleases, are left out."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in paths}


def _set_aside(path: Path, why: str) -> None:
    """Move it out of the way, in the place of what was set aside before it."""
    aside = path.with_name(path.name + _DAMAGED)
    try:
        if aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside)
        path.replace(aside)
        _logger.warning("%s is damaged (%s). It is set aside as %s.", path, why, aside.name)
    except OSError as error:
        _logger.warning("%s is damaged (%s), and cannot be set aside (%s).", path, why, error)


def _remove_abandoned(folder: Path) -> None:
    """Remove downloads that a start which ran out of time has left behind."""
    for path in folder.glob(f"{_INCOMING}*"):
        if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _backup(pointer: Path) -> Path:
    return pointer.with_name(f".{pointer.name}")


def _write(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)
