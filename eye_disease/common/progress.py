"""Progress of long work: a bar on a terminal, a line a minute in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

T = TypeVar("T")

_WIDTH = 30
_SHORT_SECONDS = 1.0
"""What takes no longer needs no bar."""
_TERMINAL_SECONDS, _LOG_SECONDS = 0.2, 60.0


class Progress:
    """Called with (step, done, in all) as often as one likes; prints seldom."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """stream: standard error where none is given."""
        self._stream = stream or sys.stderr
        self._bar = self._stream.isatty()
        self._step, self._began, self._shown = "", 0.0, 0.0

    def __call__(self, step: str, done: int, total: int) -> None:
        """Say how far `step` has come, where it is time to."""
        now = time.monotonic()
        if step != self._step:
            self._step, self._began, self._shown = step, now, now
        ended = done >= total
        if now - self._began < (_SHORT_SECONDS if self._bar else _LOG_SECONDS):
            return
        if not ended and now - self._shown < (_TERMINAL_SECONDS if self._bar else _LOG_SECONDS):
            return
        self._shown = now
        print(self._line(done, total, now - self._began), end="", file=self._stream, flush=True)
        if ended or not self._bar:
            print(file=self._stream, flush=True)

    def over(self, step: str, items: Iterable[T], total: int) -> Iterator[T]:
        """The items, counted as they come."""
        done = 0
        self(step, done, total)
        for done, item in enumerate(items, start=1):
            yield item
            self(step, done, total)

    def begin(self, step: str) -> None:
        """Say that something has begun whose end cannot be foretold; on a terminal only."""
        if self._bar:
            print(f"{step} ...", file=self._stream, flush=True)

    def _line(self, done: int, total: int, seconds: float) -> str:
        share = done / max(total, 1)
        left = f", about {remaining(seconds * (1 - share) / share)} left" if 0 < share < 1 else f", {remaining(seconds)}"
        counted = f"{self._step}: {done:,} of {total:,}{left if seconds >= 1 else ''}"
        if not self._bar:
            return counted
        bar = "#" * round(_WIDTH * share)
        return f"\r[{bar:<{_WIDTH}}] {counted}\x1b[K"


def remaining(seconds: float) -> str:
    """A span of time as people say it: 40 s, 3 min, 1.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
