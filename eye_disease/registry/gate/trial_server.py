"""A version on trial: served natively from its own environment on this machine, and asked over HTTP."""

import base64
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

from eye_disease.common.model_process import environment
from eye_disease.common.secrets import hide_secrets
from eye_disease.common.text import one_line

_ROWS = 8
"""Photos of one request."""
_GUARDED = '("$@"; kill -TERM 0) & cat; kill -TERM 0'
"""Ends the whole process group when the command ends, or when standard input does: that is, however this process ends."""


class TrialError(RuntimeError):
    """The version cannot be served, or does not answer as a model server does."""


class Trial:
    """A model folder being served."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], output: Path, deadline: float) -> None:
        self.url = url
        self._process = process
        self._output = output
        self._deadline = deadline
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy has no business between two processes of one machine

    def wait(self) -> None:
        """Return once the model is loaded and has answered its canary photo. Raises TrialError."""
        while time.monotonic() < self._deadline:
            if self._process.poll() is not None:
                raise TrialError(f"it ended while starting: {self._last_words()}")
            if self._is_up():
                return
            time.sleep(0.2)
        raise TrialError(f"it was not up within GATE_TIMEOUT_SECONDS: {self._last_words()}")

    def answer(self, photo: bytes) -> dict[str, Any]:
        """The answer row to one image file. Raises TrialError."""
        return self._ask([photo])[0]

    def answers(self, files: Sequence[Path]) -> Iterator[dict[str, Any]]:
        """One answer row an image file, in order. Raises TrialError, OSError."""
        for start in range(0, len(files), _ROWS):
            yield from self._ask([file.read_bytes() for file in files[start : start + _ROWS]])

    def median_ms(self, photo: bytes, answers: int = 20) -> float:
        """Median time from request to answer of one photo, milliseconds. Raises TrialError."""
        times = []
        for _ in range(answers):
            start = time.perf_counter()
            self.answer(photo)
            times.append((time.perf_counter() - start) * 1000)
        return sorted(times)[answers // 2]

    def _ask(self, photos: Sequence[bytes]) -> list[dict[str, Any]]:
        body = {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(photo).decode()] for photo in photos]}}
        try:
            response = self._session.post(f"{self.url}/invocations", json=body, timeout=300)
            answers: list[dict[str, Any]] | None = response.json()["predictions"] if response.ok else None
        except (requests.RequestException, ValueError, KeyError) as error:
            raise TrialError(f"it gave no answer ({type(error).__name__})") from error
        if answers is None or len(answers) != len(photos):
            raise TrialError(f"it gave HTTP {response.status_code} instead of {len(photos)} answers")
        return answers

    def _is_up(self) -> bool:
        try:
            return self._session.get(f"{self.url}/ping", timeout=5).ok
        except requests.RequestException:
            return False

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._output.read_text(errors="replace").splitlines() if line.strip()]
        wrong = [line for line in lines if "Error" in line]
        return one_line(hide_secrets((wrong or lines or ["no output"])[-1]), 300)


@contextmanager
def on_trial(folder: Path, env_manager: str, timeout_seconds: int) -> Iterator[Trial]:
    """`mlflow models serve` of a model folder until the block ends; call `wait` before asking. Its records are discarded.

    env_manager: what makes the environment that the model names: uv, virtualenv, or local (none: this process's own).
    """
    with tempfile.TemporaryDirectory() as scratch:
        port, output = _free_port(), Path(scratch) / "output.log"
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder), "--host", "127.0.0.1"]
        command += ["--port", str(port), "--workers", "1", "--env-manager", env_manager]
        env = environment(f"{scratch}/records")
        # MLflow looks for `uvicorn` on the PATH, where a virtual environment that is not activated has none.
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}"
        with output.open("wb") as sink:
            process = subprocess.Popen(
                ["sh", "-c", _GUARDED, "trial", *command],
                cwd=scratch,
                env=env,
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield Trial(f"http://127.0.0.1:{port}", process, output, time.monotonic() + timeout_seconds)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin:
        process.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)
    with suppress(ProcessLookupError):  # all of the group has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
