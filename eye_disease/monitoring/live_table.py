"""A live table of the served versions in the terminal."""

import shutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from statistics import fmean, quantiles
from typing import TextIO

from eye_disease.common.secrets import hide_secrets
from eye_disease.common.text import clean
from eye_disease.monitoring.exporter import ReadStates
from eye_disease.records.recent import RECENT, LiveNumbers, LogTail
from eye_disease.records.storage import Storage

_HEADER = ("model", "version", "drift", "total", "15 min", "errors", "confidence", "p50 ms", "p95 ms", "lost", "classes")
_HOME, _CLEAR_TO_END, _CLEAR_LINE = "\x1b[H", "\x1b[J", "\x1b[K"
_COLOURS = {"ok": "\x1b[32m", "warning": "\x1b[33m", "drift": "\x1b[31m"}
_PLAIN = "\x1b[0m"
_LONGEST_NAME = 40
_KEYS = "Ctrl-C ends; redrawn every 2 s"


def watch(
    storage: Storage,
    read_states: ReadStates,
    stop: threading.Event,
    seconds: float = 2.0,
    out: TextIO | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Redraw the table every `seconds` until `stop` is set. Where the output is no terminal, print it once and return."""
    out = out or sys.stdout
    tail = LogTail(storage)
    terminal = out.isatty()
    if terminal:
        out.write(_HOME + _CLEAR_TO_END)
    while True:
        tail.poll()
        width = shutil.get_terminal_size().columns if terminal else None
        lines = table(tail.numbers, read_states(), now(), width)
        lines += [] if tail.numbers else [f"No records yet in {hide_secrets(storage.location)} (INFERENCE_LOG_DIR)."]
        if not terminal:
            out.write("\n".join(lines) + "\n")
            return
        coloured = [_coloured(line) for line in [*lines, "", _KEYS]]
        out.write(_HOME + "".join(f"{line}{_CLEAR_LINE}\n" for line in coloured) + _CLEAR_TO_END)
        out.flush()
        if stop.wait(seconds):
            return


def table(
    numbers: Mapping[tuple[str, str], LiveNumbers], states: Mapping[tuple[str, str], str], now: datetime, width: int | None
) -> list[str]:
    """The table's lines, cut to `width` characters. Confidence and times are of the last 15 minutes."""
    title = f"Served models, {now:%Y-%m-%d %H:%M:%S} UTC"
    if not numbers:
        return [title, ""]
    rows = [_HEADER, *(_row(*version, live, states.get(version, "-"), now) for version, live in sorted(numbers.items()))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = ["  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [line[:width] for line in (title, "", *lines)]


def _row(model: str, version: str, numbers: LiveNumbers, state: str, now: datetime) -> tuple[str, ...]:
    recent = [record for record in numbers.recent if now - RECENT <= record[0]]
    answers = [record for record in recent if record[1]]
    times = [record[3] for record in answers]
    cuts = quantiles(times, n=20, method="inclusive") if len(times) > 1 else times * 19
    classes: Counter[str] = Counter()
    for (name, _), count in numbers.predictions.items():
        classes[clean(name, _LONGEST_NAME)] += count
    return (
        clean(model, _LONGEST_NAME),
        clean(version, _LONGEST_NAME),
        clean(state, _LONGEST_NAME),
        f"{classes.total() + numbers.errors.total():,}",
        f"{len(recent):,}",
        f"{numbers.errors.total():,}",
        f"{fmean(record[2] for record in answers):.3f}" if answers else "-",
        f"{cuts[9]:.1f}" if cuts else "-",
        f"{cuts[18]:.1f}" if cuts else "-",
        f"{numbers.lost_records:,}",
        " ".join(f"{name} {count / classes.total():.0%}" for name, count in sorted(classes.items())),
    )


def _coloured(line: str) -> str:
    for state, colour in _COLOURS.items():
        line = line.replace(f"  {state} ", f"  {colour}{state}{_PLAIN} ")
    return line
