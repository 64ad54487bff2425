"""Live numbers from the ends of the log's segments, for the exporter and the terminal: the served model stays untouched."""

import json
from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from eye_disease.common.text import one_line
from eye_disease.records.storage import Storage
from eye_disease.records.store import RecordStore, find_stores, warn_once
from model_code.schema import SCHEMA_VERSION

LATENCY_BOUNDS_MS = (5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0)
CONFIDENCE_BOUNDS = tuple(step / 10 for step in range(1, 11))
RECENT = timedelta(minutes=15)
"""What counts as recent in the terminal."""
_CHUNK_BYTES = 16 * 2**20


class Histogram:
    """Counts of values up to each bound, and of those above the last."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass
class LiveNumbers:
    """Of one model version, since this process began to read."""

    predictions: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(class, decision) -> answers."""
    errors: Counter[str] = field(default_factory=Counter)
    """Error code -> photos."""
    latency_ms: Histogram = field(default_factory=lambda: Histogram(LATENCY_BOUNDS_MS))
    confidence: Histogram = field(default_factory=lambda: Histogram(CONFIDENCE_BOUNDS))
    lost_records: int = 0
    """Records that the served model could not write."""
    unreadable_lines: int = 0
    recent: deque[tuple[datetime, bool, float, float]] = field(default_factory=lambda: deque(maxlen=100_000))
    """(time, answered, confidence, inference time in ms) of the last records; zeros where there was an error."""

    def add(self, record: dict[str, Any]) -> None:
        """Count a record; the health probe's own photos do not count. Raises KeyError, TypeError, ValueError for none."""
        time = datetime.fromisoformat(record["timestamp"])
        if time.tzinfo is None:
            raise ValueError
        lost = int(record["lost_records"])
        answered = record["error_code"] is None
        confidence, latency = (float(record["confidence"]), float(record["inference_time_ms"])) if answered else (0.0, 0.0)
        self.lost_records += lost
        if record["canary"]:
            return
        self.recent.append((time, answered, confidence, latency))
        if not answered:
            self.errors[record["error_code"]] += 1
            return
        self.predictions[record["predicted_class"], record["decision"]] += 1
        self.confidence.add(confidence)
        self.latency_ms.add(latency)


class LogTail:
    """Reads what the segments of a log have gained; `numbers` holds the sums, by (model, version)."""

    def __init__(self, storage: Storage) -> None:
        self.numbers: dict[tuple[str, str], LiveNumbers] = {}
        self._storage = storage
        self._offsets: dict[str, int] = {}

    def poll(self) -> None:
        """Read the whole lines that have come since the last call. Raises OSError."""
        offsets: dict[str, int] = {}
        for store in find_stores(self._storage):
            numbers = self.numbers.setdefault((store.model, store.version), LiveNumbers())
            for name, size in self._files(store).items():
                if name.endswith(".jsonl"):
                    path = f"{store.folder}/{name}"
                    offsets[path] = self._read(path, size, numbers)
        self._offsets = offsets

    def _files(self, store: RecordStore) -> dict[str, int]:
        try:
            return self._storage.files(store.folder)
        except OSError as error:
            warn_once(self._storage, store.folder, f"cannot be read ({one_line(error, 200)})")
            return {}

    def _read(self, path: str, size: int, numbers: LiveNumbers) -> int:
        offset = self._offsets.get(path, 0)
        offset = offset if offset <= size else 0
        while offset < size:
            try:
                new = self._storage.read(path, offset, min(_CHUNK_BYTES, size - offset))
            except FileNotFoundError:  # ingested and removed since it was listed
                break
            except OSError as error:
                warn_once(self._storage, path, f"cannot be read ({one_line(error, 200)})")
                break
            whole = new[: new.rfind(b"\n") + 1]
            if not whole:
                break
            _count(whole, numbers)
            offset += len(whole)
        return offset


def _count(lines: bytes, numbers: LiveNumbers) -> None:
    for line in lines.split(b"\n"):
        if line.strip():
            try:
                record = json.loads(line)
                if record["schema_version"] != SCHEMA_VERSION:
                    raise ValueError
                numbers.add(record)
            except (ValueError, KeyError, TypeError):
                numbers.unreadable_lines += 1
