"""Progress is a bar on a terminal, and a line a minute in a log."""

import io

import pytest

from eye_disease.common import progress as progress_module
from eye_disease.common.progress import Progress, remaining


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """[seconds since some start]"""
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


def _run(stream: io.StringIO, clock: list[float], seconds_each: float, total: int) -> str:
    progress = Progress(stream)
    for done in range(total + 1):
        progress("reading photos", done, total)
        clock[0] += seconds_each
    return stream.getvalue()


def test_a_log_gets_a_line_a_minute(clock: list[float]) -> None:
    lines = _run(io.StringIO(), clock, 10, 30).splitlines()
    assert lines[0] == "reading photos: 6 of 30, about 4 min left"
    assert lines[-1] == "reading photos: 30 of 30, 5 min"
    assert len(lines) == 5


def test_a_log_hears_nothing_of_short_work(clock: list[float]) -> None:
    assert _run(io.StringIO(), clock, 0.1, 30) == ""


def test_a_terminal_sees_a_bar_that_fills(clock: list[float]) -> None:
    shown = _run(Terminal(), clock, 1, 10)
    assert shown.count("\r") == 10
    assert shown.endswith("10 of 10, 10 s\x1b[K\n")
    assert "[" + "#" * 15 + " " * 15 + "] reading photos: 5 of 10, about 5 s left" in shown


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (170, "3 min"), (5400, "1.5 h")])
def test_a_span_as_people_say_it(seconds: float, text: str) -> None:
    assert remaining(seconds) == text


def test_items_are_counted_as_they_come(clock: list[float]) -> None:
    stream = io.StringIO()
    for item in Progress(stream).over("asking", iter("abc"), 3):
        assert item in "abc"
        clock[0] += 61
    assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == [
        "asking: 1 of 3",
        "asking: 2 of 3",
        "asking: 3 of 3",
    ]


def test_a_beginning_is_said_to_people_only() -> None:
    terminal, log = Terminal(), io.StringIO()
    for stream in (terminal, log):
        Progress(stream).begin("Converting")
    assert (terminal.getvalue(), log.getvalue()) == ("Converting ...\n", "")
