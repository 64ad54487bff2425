"""Load shedding: refuses a request that would wait too long for its turn in this process."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_WEIGHT = 0.1
"""Of the newest observation in the running means."""


class _Ticket:
    """A request on its way from one door to the other."""

    queued = True


_TICKET: ContextVar[_Ticket | None] = ContextVar("ticket", default=None)


class LoadGate:
    """Counts requests and photos, and estimates the wait from how fast photos have been answered lately. Safe for threads.

    A request passes two doors: `request`, when it has arrived whole, and `photos`, when it is known how many it holds; between
    them it waits for a thread of the server, and counts as many photos as requests have had on average.
    """

    def __init__(self, limit_seconds: float) -> None:
        self.limit_seconds = limit_seconds
        self._lock = threading.Lock()
        self._queued = self._photos = 0
        self._mean_rows = self._mean_seconds = 0.0
        self._moment = 0.0
        """When the last photo was answered, or when there was one again."""

    def wait_seconds(self) -> float:
        """Expected time until the photos that wait now are answered."""
        with self._lock:
            if self._photos == 0 and self._queued <= 1:  # at rest; or the last request's answer is just leaving
                return 0.0
            return (self._photos + self._queued * max(1.0, self._mean_rows)) * self._mean_seconds

    def is_full(self) -> bool:
        """Whether a new request would wait too long."""
        return self.wait_seconds() > self.limit_seconds

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request that has arrived and has no answer yet."""
        ticket = _Ticket()
        token = _TICKET.set(ticket)  # the server's thread has it too
        with self._lock:
            self._queued += 1
        try:
            yield
        finally:
            self._leave_queue(ticket)
            _TICKET.reset(token)

    @contextmanager
    def photos(self, count: int) -> Iterator[Callable[[], None]]:
        """A request whose photos are being answered; call what is given once a photo has its answer."""
        left = count

        def answered() -> None:
            nonlocal left
            with self._lock:
                now = time.monotonic()
                seconds, self._moment = now - self._moment, now
                left -= 1
                self._photos -= 1
                self._mean_seconds = _updated(self._mean_seconds, seconds)

        self._leave_queue(_TICKET.get())
        with self._lock:
            if self._photos == 0:
                self._moment = time.monotonic()
            self._photos += count
            self._mean_rows = _updated(self._mean_rows, count)
        try:
            yield answered
        finally:
            with self._lock:
                self._photos -= left  # of a request that has failed

    def _leave_queue(self, ticket: _Ticket | None) -> None:
        with self._lock:
            if ticket and ticket.queued:
                ticket.queued = False
                self._queued -= 1


def _updated(mean: float, value: float) -> float:
    return mean + _WEIGHT * (value - mean) if mean else value
