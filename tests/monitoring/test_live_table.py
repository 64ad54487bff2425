"""The live table: on a terminal it is redrawn, elsewhere printed once."""

import io
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from eye_disease.monitoring.live_table import table, watch
from eye_disease.records.recent import LogTail
from eye_disease.records.storage import Storage
from tests.support.logs import MODEL, NOON, append, failed, minutes, record

NOW = NOON + minutes(20)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _numbers(folder: Path) -> LogTail:
    tail = LogTail(Storage(str(folder)))
    tail.poll()
    return tail


def _cells(lines: list[str], row: int = 0) -> dict[str, str]:
    header, line = lines[2], lines[3 + row]
    names = [name for name in header.split("  ") if name.strip()]
    starts = [header.index(name) for name in names] + [None]
    return {name.strip(): line[start:end].strip() for name, start, end in zip(names, starts, starts[1:], strict=False)}


def test_a_row_for_each_version(tmp_path: Path) -> None:
    old = [record(n, NOON, confidence=0.2) for n in range(2)]
    new = [record(n, NOON + minutes(10), inference_time_ms=10.0 * n, confidence=0.9) for n in range(2, 5)]
    append(tmp_path / MODEL / "1", *old, *new, record(5, predicted_class="normal", lost_records=2), failed(6))
    append(tmp_path / MODEL / "2", record(0))
    lines = table(_numbers(tmp_path).numbers, {(MODEL, "1"): "drift"}, NOW, None)
    assert lines[0] == "Served models, 2026-03-01 12:20:00 UTC"
    assert _cells(lines) == {
        "model": MODEL,
        "version": "1",
        "drift": "drift",
        "total": "7",
        "15 min": "3",
        "errors": "1",
        "confidence": "0.900",
        "p50 ms": "30.0",
        "p95 ms": "39.0",
        "lost": "2",
        "classes": "cataract 83% normal 17%",
    }
    assert (_cells(lines, 1)["version"], _cells(lines, 1)["drift"], _cells(lines, 1)["confidence"]) == ("2", "-", "-")


@pytest.mark.parametrize("count", [1, 2])
def test_times_of_few_answers(tmp_path: Path, count: int) -> None:
    append(tmp_path / MODEL / "1", *(record(n, NOON) for n in range(count)))
    cells = _cells(table(_numbers(tmp_path).numbers, {}, NOON, None))
    assert (cells["p50 ms"], cells["p95 ms"]) == ("12.5", "12.5")


def test_only_errors(tmp_path: Path) -> None:
    append(tmp_path / MODEL / "1", failed(0))
    cells = _cells(table(_numbers(tmp_path).numbers, {}, NOON, None))
    assert (cells["total"], cells["errors"], cells["confidence"]) == ("1", "1", "-")
    assert cells.get("classes", "") == ""


def test_an_empty_log_says_where_to_look(tmp_path: Path) -> None:
    out = io.StringIO()
    watch(Storage(str(tmp_path)), dict, threading.Event(), out=out, now=lambda: NOW)
    assert out.getvalue().splitlines()[2] == f"No records yet in {tmp_path} (INFERENCE_LOG_DIR)."


def test_lines_fit_the_terminal(tmp_path: Path) -> None:
    append(tmp_path / MODEL / "1", record(0))
    assert max(map(len, table(_numbers(tmp_path).numbers, {}, NOW, 40))) == 40


def test_elsewhere_than_on_a_terminal_it_is_printed_once_without_colours(tmp_path: Path) -> None:
    append(tmp_path / MODEL / "1", record(0))
    out = io.StringIO()
    watch(Storage(str(tmp_path)), lambda: {(MODEL, "1"): "drift"}, threading.Event(), out=out, now=lambda: NOW)
    assert "\x1b" not in out.getvalue()
    assert out.getvalue().count(MODEL) == 1
    assert out.getvalue().endswith("\n")


def test_on_a_terminal_it_is_redrawn_with_what_is_new_until_it_is_stopped(tmp_path: Path) -> None:
    append(tmp_path / MODEL / "1", record(0))
    out, stop = Terminal(), threading.Event()
    times: list[datetime] = []

    def now() -> datetime:
        times.append(NOW + timedelta(seconds=len(times)))
        append(tmp_path / MODEL / "1", record(len(times)))
        if len(times) == 3:
            stop.set()
        return times[-1]

    watch(Storage(str(tmp_path)), lambda: {(MODEL, "1"): "drift"}, stop, seconds=0, out=out, now=now)
    frames = out.getvalue().split("\x1b[H")[2:]
    assert [frame[:43].partition(", ")[2][:19] for frame in frames] == [f"2026-03-01 12:20:0{n}" for n in range(3)]
    assert all("\x1b[31mdrift\x1b[0m" in frame for frame in frames)
    assert all(frame.endswith("\x1b[J") for frame in frames)
    assert all("Ctrl-C ends" in frame for frame in frames)
