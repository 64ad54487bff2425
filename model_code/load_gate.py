"""How long a new photo would wait in this process, and whether that is too long."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_WEIGHT = 0.1
"""Of the newest observation in the running means."""


class LoadGate:
    """Counts requests and photos, and estimates the wait from how fast photos have been answered lately. Safe for threads.

    A request passes two doors: `request`, when it has arrived whole, and `photos`, when it is known how many it holds; between
    them it waits for a thread of the server, and counts as many photos as requests have had on average.
    """

    def __init__(self, limit_seconds: float) -> None:
        self.limit_seconds = limit_seconds
        self._lock = threading.Lock()
        self._requests = self._inside = self._photos = 0
        self._mean_rows, self._mean_seconds = 1.0, 0.0
        self._moment = 0.0
        """When the last photo was answered, or when there was one again."""

    def wait_seconds(self) -> float:
        """Expected time until the photos that wait now are answered."""
        with self._lock:
            unknown = max(0, self._requests - self._inside) * self._mean_rows
            return (self._photos + unknown) * self._mean_seconds

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request that has arrived and has no answer yet."""
        with self._lock:
            self._requests += 1
        try:
            yield
        finally:
            with self._lock:
                self._requests -= 1

    @contextmanager
    def photos(self, count: int) -> Iterator[Callable[[], None]]:
        """A request whose photos are being answered; call what is given once a photo has its answer."""
        left = count

        def answered() -> None:
            nonlocal left
            with self._lock:
                now = time.monotonic()
                taken, self._moment = now - self._moment, now
                left -= 1
                self._photos -= 1
                self._mean_seconds += (_WEIGHT if self._mean_seconds else 1.0) * (taken - self._mean_seconds)

        with self._lock:
            if self._photos == 0:
                self._moment = time.monotonic()
            self._inside += 1
            self._photos += count
            self._mean_rows += _WEIGHT * (count - self._mean_rows)
        try:
            yield answered
        finally:
            with self._lock:
                self._inside -= 1
                self._photos -= left  # of a request that has failed
