"""Results for MLflow, on disk until they are there: a tracking server that is down costs nothing but time.

<folder>/<id>/batch.json      what goes to the run and the model version
<folder>/<id>/metrics.ndjson  [name, value, timestamp_ms, step], a line each
<folder>/<id>/artifacts/      files for the run
<folder>/refused/<key>/       what the server will never take
<folder>/damaged/<id>/        what cannot be read any more
"""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Protocol

from eye_disease.common.errors import TrackingRefusedError, TrackingUnavailableError
from eye_disease.common.text import one_line
from eye_disease.monitoring.metrics import Point
from eye_disease.records.state_file import StateFileError, decode, encode, read_bytes
from eye_disease.records.storage import Storage

_logger = logging.getLogger(__name__)
_LATER_FIELDS = ("run_tags", "version_tags", "note")
_CHECKED = 1_000
"""Metrics read at a time to see whether they can be."""
_REFUSED, _DAMAGED = "refused", "damaged"


@dataclass(frozen=True)
class Batch:
    """What one run of the job writes for one model version, beside metrics and artifacts."""

    id: str
    """A file name of its own; batches are sent in the order of their ids."""
    model: str
    version: str
    run_tags: dict[str, str] = field(default_factory=dict)
    version_tags: dict[str, str] = field(default_factory=dict)
    note: str | None = None
    """Markdown shown on the run's page; None: leave it."""


@dataclass(frozen=True)
class Waiting:
    """A batch on disk."""

    batch: Batch
    folder: Path
    count: int | None = None
    """Of its metrics; None in batches of earlier releases"""

    @property
    def key(self) -> str:
        """Of id and metrics: tells whether what a server has seen of this batch is this very batch."""
        with (self.folder / "metrics.ndjson").open("rb") as file:
            return f"{self.batch.id}-{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"

    @property
    def artifacts(self) -> Path:
        """The folder of the files for the run; it need not exist."""
        return self.folder / "artifacts"

    def points(self, skip: int, size: int) -> Iterator[list[Point]]:
        """The metrics from the `skip`-th on, `size` at a time."""
        with (self.folder / "metrics.ndjson").open() as file:
            lines = islice(file, skip, None)
            while chunk := [_point(line) for line in islice(lines, size)]:
                yield chunk


def _point(line: str) -> Point:
    """Raises ValueError, TypeError for a line that is none."""
    name, value, timestamp_ms, step = json.loads(line)
    if not isinstance(name, str) or isinstance(value, str):
        raise TypeError(f"{line[:80]!r} is no metric")
    return Point(name, float(value), int(timestamp_ms), int(step))


class Writer(Protocol):
    """Takes a batch to the tracking server; may be called again for one that it has taken, wholly or in part."""

    def write(self, waiting: Waiting, deadline: float) -> None:
        """Give up at `deadline` (time.monotonic). Raises TrackingUnavailableError, TrackingRefusedError."""


class Spool:
    """Batches waiting in a local folder. One process at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = Storage(str(folder))

    def put(self, batch: Batch, metrics: Iterable[Point], artifacts: Mapping[str, bytes]) -> None:
        """Keep a batch, in the place of one with the same id. Artifacts: file name -> content.

        Remember that its data are dealt with after `put`, and only then send. Raises ValueError for a value that is not finite.
        """
        incoming = f".{batch.id}.partial"
        shutil.rmtree(self._folder / incoming, ignore_errors=True)
        written = 0
        with self._files.create(f"{incoming}/metrics.ndjson") as file:
            for point in metrics:
                file.write(json.dumps(point, allow_nan=False).encode() + b"\n")
                written += 1
        contents = {f"artifacts/{name}": content for name, content in artifacts.items()}
        for name, content in (contents | {"batch.json": encode(asdict(batch) | {"count": written})}).items():
            with self._files.create(f"{incoming}/{name}") as file:
                file.write(content)
        target = self._folder / batch.id
        if target.exists():
            shutil.rmtree(target)
        (self._folder / incoming).rename(target)
        self._drop_outdated(batch, artifacts)

    def discard(self, batch_id: str) -> None:
        """Drop a batch that a killed run has put and never remembered; nothing happens if there is none."""
        (self._folder / batch_id / "batch.json").unlink(missing_ok=True)  # from here on it is gone
        shutil.rmtree(self._folder / batch_id, ignore_errors=True)

    def waiting(self) -> list[Waiting]:
        """The batches that have not been sent, oldest first."""
        folders = sorted(path.parent for path in self._folder.glob("*/batch.json") if not path.parent.name.startswith("."))
        return [batch for folder in folders if (batch := self._opened(folder)) is not None]

    def send(self, writer: Writer, budget_seconds: float) -> int:
        """Send what waits, within a time; returns how many batches still wait."""
        deadline = time.monotonic() + budget_seconds
        for waiting in self.waiting():
            if not self._is_whole(waiting):
                continue
            try:
                writer.write(waiting, deadline)
            except TrackingRefusedError as error:
                refused = self._folder / _REFUSED / waiting.key
                _logger.error("MLflow refuses the results, which are kept in %s: %s", refused, error)
                shutil.rmtree(refused, ignore_errors=True)
                refused.parent.mkdir(exist_ok=True)
                waiting.folder.rename(refused)
            except TrackingUnavailableError as error:
                left = len(self.waiting())
                _logger.warning("%d result batches are queued for MLflow in %s: %s", left, self._folder, error)
                return left
            else:
                (waiting.folder / "batch.json").unlink()  # from here on it is gone, however far the next line comes
                shutil.rmtree(waiting.folder)
        return 0

    def _opened(self, folder: Path) -> Waiting | None:
        """None if its batch.json cannot be read now, or is damaged: then the batch is set aside."""
        try:
            content = read_bytes(self._files, f"{folder.name}/batch.json")
            return Waiting(decode(content, Batch, _LATER_FIELDS), folder, json.loads(content).get("count"))
        except (StateFileError, FileNotFoundError) as error:
            _logger.error("Results wait: %s", error)
        except ValueError as error:
            self._set_aside(folder, "batch.json", error)
        return None

    def _is_whole(self, waiting: Waiting) -> bool:
        """Whether all of a batch can be read: one that cannot must not hold up the others. A damaged one is set aside."""
        try:
            written = sum(len(chunk) for chunk in waiting.points(0, _CHECKED))
            if waiting.count not in (None, written):
                raise ValueError(f"{written} metrics of {waiting.count}")
            for path in waiting.artifacts.rglob("*"):
                if path.is_file():
                    path.open("rb").close()
        except PermissionError as error:
            _logger.error("Results wait: %s cannot be read (%s).", error.filename, error.strerror)
            return False
        except (OSError, ValueError, TypeError) as error:
            self._set_aside(waiting.folder, "metrics.ndjson", error)
            return False
        return True

    def _set_aside(self, folder: Path, name: str, error: Exception) -> None:
        target = self._folder / _DAMAGED / folder.name
        target = next(path for n in count(1) if not (path := target.with_name(f"{folder.name}-{n}")).exists())
        target.parent.mkdir(exist_ok=True)
        folder.rename(target)
        _logger.error(
            "%s is damaged (%s). The batch is kept as %s; its results of one window are missing from MLflow.",
            folder / name,
            one_line(error, 200),
            target,
        )

    def _drop_outdated(self, batch: Batch, artifacts: Mapping[str, bytes]) -> None:
        """A report that the next one replaces need not fill the disk while the server is down."""
        for older in self.waiting():
            if (older.batch.model, older.batch.version) == (batch.model, batch.version) and older.batch.id < batch.id:
                for name in artifacts:
                    (older.artifacts / name).unlink(missing_ok=True)
