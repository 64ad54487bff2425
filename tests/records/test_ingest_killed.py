"""Ingest killed at any point: whatever has happened, the next run leaves every record in the store once."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from eye_disease.records.ingest import Ingested, ingest
from eye_disease.records.storage import Storage
from eye_disease.records.store import RecordStore
from tests.support.logs import MODEL, NOON, append, minutes, record
from tests.support.servers import PROJECT, environment, run

pytestmark = [pytest.mark.usefixtures("no_waiting_for_the_disk"), pytest.mark.slow]
LATER = NOON + timedelta(hours=2)


def _ids(store: RecordStore) -> list[str]:
    return sorted(value for batch in store.read_batches(["prediction_id"]) for value in batch["prediction_id"].to_pylist())


def _ids_of(records: list[dict]) -> list[str]:
    return sorted(record["prediction_id"] for record in records)


class _KilledError(BaseException):
    """Stands for the end of the process."""


class _Killed(Storage):
    """A storage whose process dies at its n-th call: before it, after it, or in the middle of a write."""

    def __init__(self, location: str, at: int, when: str) -> None:
        super().__init__(location)
        self.calls = 0
        self._at, self._when = at, when

    @contextmanager
    def _step(self) -> Iterator[bool]:
        self.calls += 1
        dies = self.calls == self._at
        if dies and self._when == "before":
            raise _KilledError
        try:
            yield dies
        finally:
            if dies:
                raise _KilledError

    def files(self, path: str, recursive: bool = False) -> dict[str, int]:
        with self._step():
            return super().files(path, recursive)

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        with self._step():
            return super().read(path, start, length)

    def remove(self, path: str) -> None:
        with self._step():
            super().remove(path)

    def write(self, path: str, data: bytes) -> None:
        with self._step():
            super().write(path, data)

    @contextmanager
    def create(self, path: str) -> Iterator[Any]:
        with self._step() as dies:
            with super().create(path) as file:
                yield file
            if dies and self._when == "amid":
                torn = Path(self.full(path))
                torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])


def _made_up_log(folder: Path) -> list[dict]:
    written = [record(n, NOON + minutes(n)) for n in range(6)] + [record(n, NOON + timedelta(hours=13), "p1") for n in range(4)]
    append(folder, *written[:6])
    with append(folder, *written[6:]).open("ab") as file:
        file.write(b"junk\n" + json.dumps(record(9)).encode()[:99])
    expired = record(0, NOON - timedelta(days=40), "p2")
    append(folder, expired)
    return written


def _counted(done: Ingested) -> dict[str, Any]:
    return {name: value for name, value in vars(done.after).items() if name != "commit"}


@pytest.mark.parametrize("when", ["before", "amid", "after"])
def test_killed_at_every_step_and_run_again(tmp_path: Path, when: str) -> None:
    """Two runs over a growing log, killed at every call to the file system; then everything is there once."""
    afternoon, night = NOON + minutes(70), NOON + timedelta(days=2)
    late = record(0, NOON + minutes(100), "p3")
    whole: dict[str, Any] = {}
    at = 0
    while True:
        root = tmp_path / f"{at}"
        written = _made_up_log(root / MODEL / "1")
        killed = _Killed(str(root), at, when)
        for now in (afternoon, night):
            with suppress(_KilledError):
                ingest(RecordStore(killed, MODEL, "1"), now, keep_days=30)
            if now == afternoon:
                append(root / MODEL / "1", late)
        store = RecordStore(Storage(str(root)), MODEL, "1")
        done = ingest(store, night, keep_days=30)
        assert _ids(store) == _ids_of([*written, late]), at
        whole = whole or _counted(done)
        assert _counted(done) == whole, at
        assert {path.name for path in (root / MODEL / "1").iterdir()} == {"ingest.json", "records", "rejected"}
        rejected = [line for path in (root / MODEL / "1").rglob("*.ndjson") for line in path.read_text().splitlines()]
        assert len(rejected) == 2, at
        if killed.calls < at:
            break
        at += 1
    assert at > 25
    assert whole["rejected"] == {"not_json": 1, "torn": 1}


_KILLED_FOR_REAL = """
import os, random, signal, sys, time
from datetime import datetime
import pyarrow as pa
from eye_disease.records import ingest as module
from eye_disease.records.storage import Storage
from eye_disease.records.store import RecordStore

module._CHUNK_BYTES = 20_000
pa.set_cpu_count(1), pa.set_io_thread_count(1)
store = RecordStore(Storage(sys.argv[1]), sys.argv[2], "1")
now, chance, deaths = datetime.fromisoformat(sys.argv[3]), random.Random(7), 0
for attempt in range(14):
    if (child := os.fork()) == 0:
        signal.alarm(60)
        try:
            module.ingest(store, now)
        finally:
            os._exit(0)
    time.sleep(chance.uniform(0, 0.25))
    os.kill(child, signal.SIGKILL)
    deaths += os.WIFSIGNALED(os.waitpid(child, 0)[1])
print(deaths)
"""


def test_kill_9_of_a_real_process(tmp_path: Path) -> None:
    folder, store = tmp_path / MODEL / "1", RecordStore(Storage(str(tmp_path)), MODEL, "1")
    written = [record(n, NOON + minutes(n / 100), f"p{p}") for p in range(4) for n in range(400)]
    for p in range(4):
        append(folder, *written[p * 400 : (p + 1) * 400])
    done = run(sys.executable, "-c", _KILLED_FOR_REAL, str(tmp_path), MODEL, LATER.isoformat(), env=environment(), cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
    ingest(store, LATER)
    assert _ids(store) == _ids_of(written)
    assert list(folder.glob("*.jsonl")) == []
