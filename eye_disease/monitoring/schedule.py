"""Runs the job repeatedly in this process, for those without cron."""

import logging
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from eye_disease.common.errors import BusyError, UserError

_logger = logging.getLogger(__name__)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_interval(text: str) -> float:
    """`90s`, `15m`, `1h` or `1d` -> seconds. Raises UserError."""
    match = re.fullmatch(r"(\d+)([smhd])", text.strip())
    if match is None or int(match[1]) == 0:
        raise UserError(f"{text!r} is not an interval. Expected a whole number and s, m, h or d, as 15m.")
    return int(match[1]) * _SECONDS[match[2]]


def run_every(
    seconds: float, run: Callable[[], object], stop: threading.Event, clock: Callable[[], float] = time.monotonic
) -> None:
    """Call `run` now and then at every multiple of `seconds`, until `stop` is set; a run at work is not interrupted.

    A run that takes longer lets beats go by; one that fails is logged and the next one comes at its time.
    """
    start = clock()
    while not stop.is_set():
        try:
            run()
        except BusyError as error:
            _logger.warning("%s", error)
        except Exception:  # whatever went wrong may be over at the next beat
            _logger.exception("The run failed; the next one comes at its time.")
        stop.wait(seconds - (clock() - start) % seconds)


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set; a second Ctrl-C ends the process at once. For the main thread."""
    stop = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop.set()
        _logger.info("%s: stopping after the run in progress.", signal.Signals(number).name)

    before = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
