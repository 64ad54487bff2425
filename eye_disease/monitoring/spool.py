"""Results for MLflow, on disk until they are there: a tracking server that is down costs nothing but time.

<folder>/<id>/batch.json      what goes to the run and the model version
<folder>/<id>/metrics.ndjson  [name, value, timestamp_ms, step], a line each
<folder>/<id>/artifacts/      files for the run
<folder>/refused/<key>/       what the server will never take
"""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

from eye_disease.common.errors import TrackingRefusedError, TrackingUnavailableError
from eye_disease.monitoring.metrics import Point
from eye_disease.records.storage import Storage

_logger = logging.getLogger(__name__)
_REFUSED = "refused"


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
            while chunk := [Point(*json.loads(line)) for line in islice(lines, size)]:
                yield chunk


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
        with self._files.create(f"{incoming}/metrics.ndjson") as file:
            file.writelines(json.dumps(point, allow_nan=False).encode() + b"\n" for point in metrics)
        contents = {f"artifacts/{name}": content for name, content in artifacts.items()}
        for name, content in (contents | {"batch.json": json.dumps(asdict(batch)).encode()}).items():
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
        found = sorted(path.parent for path in self._folder.glob("*/batch.json") if not path.parent.name.startswith("."))
        return [Waiting(Batch(**json.loads((folder / "batch.json").read_text())), folder) for folder in found]

    def send(self, writer: Writer, budget_seconds: float) -> int:
        """Send what waits, within a time; returns how many batches still wait."""
        deadline = time.monotonic() + budget_seconds
        for one in self.waiting():
            try:
                writer.write(one, deadline)
            except TrackingRefusedError as error:
                refused = self._folder / _REFUSED / one.key
                _logger.error("MLflow refuses the results, which are kept in %s: %s", refused, error)
                shutil.rmtree(refused, ignore_errors=True)
                refused.parent.mkdir(exist_ok=True)
                one.folder.rename(refused)
            except TrackingUnavailableError as error:
                left = len(self.waiting())
                _logger.warning("%d batches of results wait for MLflow in %s: %s", left, self._folder, error)
                return left
            else:
                (one.folder / "batch.json").unlink()  # from here on it is gone, however far the next line comes
                shutil.rmtree(one.folder)
        return 0

    def _drop_outdated(self, batch: Batch, artifacts: Mapping[str, bytes]) -> None:
        """A report that the next one replaces need not fill the disk while the server is down."""
        for older in self.waiting():
            if (older.batch.model, older.batch.version) == (batch.model, batch.version) and older.batch.id < batch.id:
                for name in artifacts:
                    (older.artifacts / name).unlink(missing_ok=True)
