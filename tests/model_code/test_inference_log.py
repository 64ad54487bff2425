import json
import logging
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from model_code import inference_log
from model_code.errors import InferenceLogError
from model_code.inference_log import InferenceLog

FORKS = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
"""From Python 3.12 on a fork of a process with threads warns; the children here write and leave at once."""


def _records_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _records(folder: Path) -> list[dict[str, Any]]:
    """Every record below a folder, in the order of its files' names and lines."""
    return [record for path in sorted(folder.rglob("*.jsonl")) for record in _records_of(path)]


def _sequences(folder: Path) -> list[int]:
    return [record["sequence"] for record in _records(folder)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """A list whose first entry is the log's time."""
    now = [datetime(2026, 3, 1, 22, 59, 59, 123456, UTC)]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return now[0].astimezone(tz)

    monkeypatch.setattr(inference_log, "datetime", Clock)
    return now


@pytest.fixture
def blocked(tmp_path: Path) -> Path:
    """A folder that cannot be made, because a file stands in its place."""
    (tmp_path / "logs").touch()
    return tmp_path / "logs"


def _in_a_fork(work: Callable[[], None]) -> None:
    """Do the work in a child process, and wait for it; a child that hangs is stopped."""
    if (child := os.fork()) == 0:
        signal.alarm(20)
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _unblock(folder: Path) -> None:
    folder.unlink()


def test_each_record_is_a_line_with_its_stamp(tmp_path: Path, clock: list[datetime]) -> None:
    log = InferenceLog(tmp_path / "a" / "b", required=False)
    log.append([{"image_id": "left", "text": "ã\n\u2028\ud800"}, {"image_id": "right"}])
    path, *others = (tmp_path / "a" / "b").iterdir()
    first, second = _records(tmp_path)
    assert others == []
    assert len(path.read_bytes().splitlines()) == 2
    assert path.read_bytes().endswith(b"\n")
    assert path.name == f"20260301T22-{first['process_id']}.jsonl"
    assert (first["image_id"], second["image_id"]) == ("left", "right")
    assert first["text"] == "ã\n\u2028\ud800"
    assert first["timestamp"] == second["timestamp"] == "2026-03-01T22:59:59.123456+00:00"
    assert (first["sequence"], second["sequence"]) == (0, 1)
    assert (first["lost_records"], second["lost_records"]) == (0, 0)


def test_no_records_write_nothing(tmp_path: Path) -> None:
    InferenceLog(tmp_path, required=False).append([])
    assert list(tmp_path.iterdir()) == []


def test_a_record_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    log = InferenceLog(tmp_path, required=False)
    for count in range(1, 6):
        log.append([{"n": count}])
        assert [record["n"] for record in _records(tmp_path)] == list(range(1, count + 1))


def test_a_request_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, writes, write = InferenceLog(tmp_path, required=False), [], os.write
    monkeypatch.setattr(os, "write", lambda file, data: writes.append(data) or write(file, data))
    log.append([{"n": n} for n in range(50)])
    assert len(writes) == 1


def test_the_log_is_not_readable_by_everyone(tmp_path: Path) -> None:
    InferenceLog(tmp_path, required=False).append([{}])
    assert next(tmp_path.iterdir()).stat().st_mode & 0o007 == 0


def test_sixteen_threads_leave_a_gap_free_sequence_of_whole_lines(tmp_path: Path) -> None:
    log = InferenceLog(tmp_path, required=True)

    def work(thread: int) -> None:
        for i in range(40):
            log.append([{"thread": thread, "i": i, "part": part, "pad": "x" * 300} for part in range(1 + i % 3)])

    with ThreadPoolExecutor(16) as executor:
        list(executor.map(work, range(16)))
    records = _records(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert [record["sequence"] for record in records] == list(range(len(records)))
    assert len({(record["thread"], record["i"], record["part"]) for record in records}) == len(records)
    assert len(records) == 16 * sum(1 + i % 3 for i in range(40))


def test_each_hour_has_a_file_and_the_sequence_goes_on(tmp_path: Path, clock: list[datetime]) -> None:
    log = InferenceLog(tmp_path, required=False)
    for _ in range(3):
        log.append([{}, {}])
        clock[0] += timedelta(hours=1)
    assert [path.name[:11] for path in sorted(tmp_path.iterdir())] == ["20260301T22", "20260301T23", "20260302T00"]
    assert _sequences(tmp_path) == list(range(6))


def test_a_clock_that_goes_back_loses_nothing(tmp_path: Path, clock: list[datetime]) -> None:
    log = InferenceLog(tmp_path, required=False)
    for hours in (0, 1, -1, 0):
        clock[0] += timedelta(hours=hours)
        log.append([{}])
    assert sorted(_sequences(tmp_path)) == [0, 1, 2, 3]


@pytest.mark.parametrize("whole_folder", [False, True])
def test_a_deleted_file_is_made_again(tmp_path: Path, whole_folder: bool) -> None:
    log = InferenceLog(tmp_path / "logs", required=False)
    log.append([{}])
    next((tmp_path / "logs").iterdir()).unlink()
    if whole_folder:
        (tmp_path / "logs").rmdir()
    log.append([{}])
    assert [(record["sequence"], record["lost_records"]) for record in _records(tmp_path)] == [(1, 0)]


def test_a_log_that_cannot_be_written_is_warned_of_and_its_losses_are_carried(
    blocked: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        log = InferenceLog(blocked, required=False)
        log.append([{}, {}])
        log.append([{}])
    assert f"The inference log in {blocked} cannot be written" in caplog.text
    assert "2 answers go out without a record" in caplog.text
    _unblock(blocked)
    log.append([{}, {}])
    log.append([{}])
    lost = [(record["sequence"], record["lost_records"]) for record in _records(blocked)]
    assert lost == [(3, 3), (4, 0), (5, 0)]


def test_a_required_log_that_cannot_be_made_stops_the_start(blocked: Path) -> None:
    with pytest.raises(InferenceLogError, match="INFERENCE_LOG_REQUIRED is set"):
        InferenceLog(blocked, required=True)


def test_a_required_log_that_cannot_be_written_refuses_and_consumes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    log = InferenceLog(folder, required=True)
    log.append([{}])
    next(folder.iterdir()).unlink()
    folder.rmdir()
    folder.touch()
    for _ in range(3):
        with pytest.raises(InferenceLogError, match="cannot be written"):
            log.append([{}, {}])
    _unblock(folder)
    log.append([{}])
    assert [(record["sequence"], record["lost_records"]) for record in _records(folder)] == [(1, 0)]


def _write_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full in the middle of the next write."""
    write = os.write

    def short(file: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", write)
        return write(file, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", short)


def test_a_write_cut_short_leaves_no_torn_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = InferenceLog(tmp_path, required=False)
    log.append([{"n": 1}])
    _write_half(monkeypatch)
    log.append([{"n": 2}, {"n": 3}])
    assert [record["n"] for record in _records(tmp_path)] == [1]
    log.append([{"n": 4}])
    assert [(record["n"], record["sequence"], record["lost_records"]) for record in _records(tmp_path)] == [
        (1, 0, 0),
        (4, 3, 2),
    ]


def test_a_required_write_cut_short_refuses_and_leaves_no_torn_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = InferenceLog(tmp_path, required=True)
    log.append([{"n": 1}])
    _write_half(monkeypatch)
    with pytest.raises(InferenceLogError, match="No space left"):
        log.append([{"n": 2}])
    log.append([{"n": 3}])
    assert [(record["n"], record["sequence"]) for record in _records(tmp_path)] == [(1, 0), (3, 1)]


def test_what_is_not_json_is_refused_and_consumes_nothing(tmp_path: Path) -> None:
    log = InferenceLog(tmp_path, required=False)
    for wrong in (float("nan"), float("inf"), b"bytes"):
        with pytest.raises((ValueError, TypeError)):
            log.append([{"n": 1}, {"n": wrong}])
    log.append([{"n": 2}])
    assert [(record["n"], record["sequence"], record["lost_records"]) for record in _records(tmp_path)] == [(2, 0, 0)]


def test_two_logs_of_a_process_have_names_of_their_own(tmp_path: Path) -> None:
    logs = [InferenceLog(tmp_path, required=False) for _ in range(20)]
    for log in logs:
        log.append([{}])
    assert len({record["process_id"] for record in _records(tmp_path)}) == 20
    assert len(list(tmp_path.iterdir())) == 20


@FORKS
def test_a_forked_process_has_a_file_and_a_sequence_of_its_own(tmp_path: Path) -> None:
    log = InferenceLog(tmp_path, required=False)
    log.append([{"who": "parent"}])
    for child in ("first", "second"):
        _in_a_fork(lambda who=child: log.append([{"who": who}, {"who": who}]))
    log.append([{"who": "parent"}])
    written: dict[str, list[int]] = {}
    for record in _records(tmp_path):
        written.setdefault(record["who"], []).append(record["sequence"])
    assert written == {"parent": [0, 1], "first": [0, 1], "second": [0, 1]}
    files = {path: {record["process_id"] for record in _records_of(path)} for path in tmp_path.iterdir()}
    assert len(files) == 3
    assert all(len(ids) == 1 for ids in files.values())
    assert len(set.union(*files.values())) == 3


@FORKS
def test_a_fork_while_a_thread_holds_the_log_does_not_block_the_child(tmp_path: Path) -> None:
    log = InferenceLog(tmp_path, required=False)
    with log._lock:
        _in_a_fork(lambda: log.append([{"who": "child"}]))
    assert [record["who"] for record in _records(tmp_path)] == ["child"]
