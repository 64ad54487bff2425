"""Decoding in a process of its own, which can be ended: the parent's side of `decode_worker`."""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from PIL import Image

from model_code.decode_file import Photo
from model_code.decode_pixels import timed_out
from model_code.decode_worker import REPLY, REQUEST
from model_code.image_error import ImageError

_START = "import sys; sys.path[:] = {path!r}; from model_code.decode_worker import main; main()"


class DecodeWorkers:
    """Processes that decode a photo at a time. Started when first needed and kept; as many as photos are decoded at once.

    They hold no more memory than their limit, end themselves when a photo takes too long, and when this process ends.
    Safe for threads and after a fork.
    """

    def __init__(self) -> None:
        self._forget()
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self._close)

    def decode(self, data: bytes, working_side: int, max_pixels: int, timeout_seconds: float) -> Photo:
        """As `decode.decode`."""
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        worker = worker or _start()
        try:
            photo = _ask(worker, data, REQUEST.pack(len(data), working_side, max_pixels, timeout_seconds))
        except (OSError, EOFError):
            ended = _end(worker)
            if ended == -signal.SIGALRM:
                raise timed_out() from None
            raise ImageError("image_corrupt", "The file cannot be decoded (its decoder has crashed).") from None
        except ImageError:
            self._give_back(worker)
            raise
        except BaseException:
            _end(worker)
            raise
        self._give_back(worker)
        return photo

    def _give_back(self, worker: "subprocess.Popen[bytes]") -> None:
        with self._lock:
            self._idle.append(worker)

    def _forget(self) -> None:
        """A forked process must not talk to its parent's workers."""
        self._lock = threading.Lock()
        self._idle: list[subprocess.Popen[bytes]] = []

    def _close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            _end(worker)


WORKERS = DecodeWorkers()


def _start() -> "subprocess.Popen[bytes]":
    path = [str(Path(__file__).resolve().parent.parent), *sys.path]
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _START.format(path=path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # where libtiff says what it thinks of every line of a photo
        env=os.environ | one_thread,
        start_new_session=True,  # a Ctrl-C is for the server
    )


def _ask(worker: "subprocess.Popen[bytes]", data: bytes, request: bytes) -> Photo:
    """Raises ImageError, as the worker says; OSError or EOFError if it has ended."""
    assert worker.stdin and worker.stdout
    worker.stdin.write(request + data)
    worker.stdin.flush()
    reply_size, pixels_size = REPLY.unpack(_read(worker.stdout, REPLY.size))
    reply = json.loads(_read(worker.stdout, reply_size))
    if "code" in reply:
        raise ImageError(reply["code"], reply["message"])
    return Photo(Image.frombytes("RGB", reply["size"], _read(worker.stdout, pixels_size)), **reply["photo"])


def _read(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _end(worker: "subprocess.Popen[bytes]") -> int:
    """End a worker and return its exit status."""
    assert worker.stdin and worker.stdout
    worker.stdout.close()
    try:
        worker.stdin.close()
    except OSError:  # what was written is not wanted any more
        worker.kill()
    return worker.wait()
