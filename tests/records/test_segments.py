"""Which segments are closed: their writers' locks decide, whatever any clock says; no line is ever removed unread."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eye_disease.records.ingest import ingest
from eye_disease.records.segments import SILENCE_SECONDS, Segments
from eye_disease.records.storage import Storage
from eye_disease.records.store import RecordStore
from model_code.inference_log import InferenceLog
from tests.support.logs import MODEL, NOON, append, record
from tests.support.servers import PROJECT, environment

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")
HOUR = timedelta(hours=1)
OLD = "clinic-7-41-0123abcd"
"""A process of the release before, which does not lock."""

# A served model's process with a clock, a host name and locks of the test's choosing: writes until its standard input ends.
_WRITER = """
import fcntl, json, select, socket, sys
from datetime import datetime, timedelta
from pathlib import Path
folder, clock, host, locks = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3], sys.argv[4] == "locks"
from model_code import inference_log
from tests.support.logs import record
if host:
    socket.gethostname = lambda: host
if not locks:
    inference_log.fcntl = type("NoLocks", (), {"flock": staticmethod(lambda *arguments: None), "LOCK_EX": 0, "LOCK_NB": 0})
answered = 0
class Clock(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + timedelta(hours=clock[(answered // 20) % len(clock)])
inference_log.datetime = Clock
log = inference_log.InferenceLog(folder, required=True)
own = ("timestamp", "process_id", "sequence", "lost_records")
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.001)[0]:
    log.append([{name: value for name, value in record(answered).items() if name not in own}])
    answered += 1
print(answered, flush=True)
sys.stdin.readline()
if "killed" in sys.argv:
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / MODEL / "1"


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(Storage(str(tmp_path)), MODEL, "1")


class Writer:
    """A process that answers photos; `stop` ends its traffic, and the end of the block the process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.answered = 0

    def _pipes(self) -> tuple[Any, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        return self.process.stdin, self.process.stdout

    def stop(self) -> None:
        incoming, outgoing = self._pipes()
        incoming.write("stop\n")
        incoming.flush()
        self.answered = int(outgoing.readline())


@contextmanager
def _writer(folder: Path, clock: list[float], host: str = "", locks: bool = True) -> Iterator[Writer]:
    """clock: hours by which the process's clock is off; it goes to the next one after every 20 answers, round and round."""
    command = [sys.executable, "-c", _WRITER, str(folder), json.dumps(clock), host, "locks" if locks else "no locks"]
    with subprocess.Popen(
        command, env=environment(), cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield Writer(process)
        finally:
            process.kill()


def _sequences(store: RecordStore) -> dict[str, list[int]]:
    stored: dict[str, list[int]] = {}
    for batch in store.read_batches(["process_id", "sequence"]):
        for row in batch.to_pylist():
            stored.setdefault(row["process_id"], []).append(row["sequence"])
    return {process: sorted(numbers) for process, numbers in stored.items()}


@pytest.mark.parametrize(
    "clocks",
    [
        [([-2.0], "")],
        [([-26.0], "")],
        [([+3.0], "")],
        [([0.0, -2.0, +5.0, -1.0], "")],
        [([-2.0], "clinic-a"), ([+2.0], "clinic-b")],
        [([+1.0, -3.0], "clinic-a"), ([0.0], "")],
    ],
    ids=["2 h behind", "a day behind", "ahead", "jumping both ways", "two hosts that disagree", "a host that jumps"],
)
def test_no_clock_loses_a_record(folder: Path, store: RecordStore, clocks: list[tuple[list[float], str]]) -> None:
    """Ingest runs again and again while real processes with such clocks answer, and none of it may fail."""
    with ExitStack() as stack:
        writers = [stack.enter_context(_writer(folder, *clock)) for clock in clocks]
        until = time.monotonic() + 0.8
        while time.monotonic() < until:
            ingest(store, datetime.now(UTC))
        for writer in writers:
            writer.stop()
        ingest(store, datetime.now(UTC))
        sequences = _sequences(store)
        assert sorted(sequences.values(), key=len) == sorted((list(range(writer.answered)) for writer in writers), key=len)
        assert len({path.name for path in folder.glob("*.jsonl")}) >= len(writers), "what is written to is not removed"
    state = ingest(store, datetime.now(UTC)).after
    assert (state.missing, state.lost_records, state.rejected, state.duplicates) == (0, 0, {}, 0)
    assert state.clock_jumps > 0
    assert _sequences(store) == sequences


@pytest.mark.parametrize("now", [timedelta(), timedelta(days=-400), timedelta(days=400)], ids=["now", "behind", "ahead"])
def test_the_lock_decides_and_not_the_readers_clock(folder: Path, store: RecordStore, now: timedelta) -> None:
    with _writer(folder, [0.0]) as writer:
        while not list(folder.glob("*.jsonl")):
            time.sleep(0.01)
        writer.stop()
        assert ingest(store, datetime.now(UTC) + now).records == writer.answered
        assert len(list(folder.glob("*.jsonl"))) == 1
        with next(folder.glob("*.jsonl")).open("ab") as file:
            file.write(b'{"cut in the mid')
        assert ingest(store, datetime.now(UTC) + now).rejected == {}
    assert ingest(store, datetime.now(UTC) + now).rejected == {"torn": 1}
    assert list(folder.glob("*.jsonl")) == []


def test_a_writer_says_that_it_is_done_with_a_segment_by_going_on_to_another(
    folder: Path, store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = InferenceLog(folder, required=True)
    own = ("timestamp", "process_id", "sequence", "lost_records")
    for hours in (0, 1):
        clock = type("Clock", (datetime,), {"now": classmethod(lambda cls, tz, hours=hours: NOON + hours * HOUR)})
        monkeypatch.setattr("model_code.inference_log.datetime", clock)
        log.append([{name: value for name, value in record(0).items() if name not in own}])
    assert len(list(folder.glob("*.jsonl"))) == 2
    ingest(store, NOON)
    assert [path.name[:11] for path in folder.glob("*.jsonl")] == ["20260301T13"]


@pytest.mark.parametrize(
    "process", [OLD, "clinic-7-41-0123456789ab"], ids=["of an earlier release", "of a host whose locks are not seen here"]
)
def test_without_a_lock_to_see_a_segment_waits_for_the_next_one_or_for_a_day_of_silence(
    folder: Path, store: RecordStore, process: str
) -> None:
    segment = append(folder, record(0, process=process))
    far = datetime.now(UTC) + timedelta(days=400)
    assert ingest(store, far).records == 1
    assert segment.exists(), "no reader's clock closes it"
    append(folder, record(1, process=process))
    after = append(folder, record(2, NOON - 5 * HOUR, process))
    os.utime(after, (time.time() + 1, time.time() + 1))
    assert ingest(store, NOON).records == 2
    assert not segment.exists(), "its process has gone on, by a clock that was set back"
    assert after.exists()
    silent = time.time() - SILENCE_SECONDS - 10
    os.utime(after, (silent, silent))
    ingest(store, NOON - timedelta(days=9))
    assert not after.exists()
    assert _sequences(store) == {process: [0, 1, 2]}


def test_a_writer_whose_lock_is_not_seen_goes_on_in_its_segment(folder: Path, store: RecordStore) -> None:
    with _writer(folder, [-3.0], "clinic-a", locks=False) as writer:
        until = time.monotonic() + 0.6
        while time.monotonic() < until:
            ingest(store, datetime.now(UTC))
        writer.stop()
        ingest(store, datetime.now(UTC))
    assert list(_sequences(store).values()) == [list(range(writer.answered))]


class _GrowsBeforeRemoval(Storage):
    """A line comes between the commit and the removal of what it took in."""

    def __init__(self, location: str, late: dict) -> None:
        super().__init__(location)
        self._late: dict | None = late

    def write(self, path: str, data: bytes) -> None:
        super().write(path, data)
        if json.loads(data).get("removing") and self._late is not None:
            append(Path(self.full(path)).parent, self._late)
            self._late = None


@pytest.mark.parametrize("process", ["p0", OLD])
def test_a_segment_that_has_grown_is_not_removed(tmp_path: Path, folder: Path, store: RecordStore, process: str) -> None:
    segment = append(folder, record(0, process=process))
    silent = time.time() - SILENCE_SECONDS - 10
    os.utime(segment, (silent, silent))
    storage = _GrowsBeforeRemoval(str(tmp_path), record(1, process=process))
    assert ingest(RecordStore(storage, MODEL, "1"), NOON + 5 * HOUR).records == 1
    assert segment.exists()
    done = ingest(store, NOON + 5 * HOUR)
    assert (done.records, done.after.duplicates) == (1, 0)
    assert _sequences(store) == {process: [0, 1]}


def test_a_segment_is_not_removed_while_somebody_holds_its_lock(folder: Path, store: RecordStore) -> None:
    log = InferenceLog(folder, required=True)
    log.append([{"n": 1}])
    (segment,) = folder.glob("*.jsonl")
    segments = Segments(store.storage, store.folder, datetime.now(UTC))
    assert segments.remove(segment.name, segment.stat().st_size) is False
    log._close()
    assert segments.remove(segment.name, segment.stat().st_size + 1) is False
    assert segments.remove(segment.name, segment.stat().st_size) is True
    assert segments.remove(segment.name, 99) is True, "gone already"


def test_a_writer_that_finds_its_file_held_takes_another_one(folder: Path, store: RecordStore) -> None:
    """As while the drift job removes a file that this process had left before its clock was set back."""
    import fcntl

    log = InferenceLog(folder, required=True)
    log.append([{"n": 1}])
    (segment,) = folder.glob("*.jsonl")
    log._close()
    with segment.open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        log.append([{"n": 2}])
    names = sorted(path.name for path in folder.glob("*.jsonl"))
    assert names == sorted([segment.name, segment.name.replace(".jsonl", ".2.jsonl")])
    segments = Segments(store.storage, store.folder, datetime.now(UTC)).listed
    assert len({segment.process for segment in segments}) == 1


def test_a_log_that_logrotate_has_renamed_is_read(folder: Path, store: RecordStore, caplog: pytest.LogCaptureFixture) -> None:
    segment = append(folder, record(0), record(1))
    ingest(store, NOON)
    segment.rename(segment.with_name(segment.name + ".1"))
    append(folder, record(2))
    (folder / f"{segment.name}.2.gz").write_bytes(b"packed")
    (folder / "99999999T99-p0.jsonl").write_text("no such day")
    assert ingest(store, NOON).records == 1
    assert _sequences(store) == {"p0": [0, 1, 2]}
    for name in (f"{segment.name}.2.gz", "99999999T99-p0.jsonl"):
        assert caplog.text.count(f"1/{name} is no file of the log that can be read") == 1
    ingest(store, NOON + 5 * HOUR)
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == [
        f"{segment.name}.2.gz",
        "99999999T99-p0.jsonl",
        "ingest.json",
    ]
    assert "is no file of the log" in caplog.text
