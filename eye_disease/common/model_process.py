"""Asks a model version in a process of its own that holds the version's own `model_code`, never this one's."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eye_disease.common.errors import UserError

_WORKER = Path(__file__).with_name("model_worker.py")
_NOT_INHERITED = (
    "INFERENCE_LOG_REQUIRED",
    "MAX_REQUEST_ROWS",
    "MAX_WAIT_SECONDS",
    "DECODE_TIMEOUT_SECONDS",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_RUN_ID",
    "MODEL_ROLE",
    "MODEL_SOURCE",
    "SERVING_MODEL_CONFIG",
)
"""Settings of this process that would change what a version answers or logs."""


class ModelProcessError(UserError):
    """The version cannot be loaded, or gives no answer; the message says why."""


class CanaryError(UserError):
    """The version answers its own canary photo otherwise than its package says: it is damaged, or does not run here."""


def environment(records: Path | str) -> dict[str, str]:
    """Of a process that a version is tried in: this one's, with an inference log elsewhere, since a trial is no traffic."""
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    return inherited | {"INFERENCE_LOG_DIR": str(records), "MLFLOW_DISABLE_TELEMETRY": "true"}


def ask(folder: Path, photo: bytes, timeout_seconds: float = 300) -> dict[str, Any]:
    """The answer row of an MLflow model folder to one image file. Raises ModelProcessError."""
    answer: dict[str, Any] = _run([str(folder.absolute())], photo, timeout_seconds)["answer"]
    return answer


def heatmaps(folder: Path, photos: Sequence[Path], timeout_seconds: float = 1800) -> list[str | None]:
    """Base64 of a PNG for each image file, None where the model makes none; of an MLflow model folder.

    Raises ModelProcessError.
    """
    names = json.dumps([str(photo.absolute()) for photo in photos]).encode()
    pictures: list[str | None] = _run([str(folder.absolute()), "--heatmaps"], names, timeout_seconds)["heatmaps"]
    return pictures


def require_canary(folder: Path, timeout_seconds: float = 300) -> None:
    """Let an MLflow model folder answer its own canary photo, and compare the answer with the one in its package.

    Raises CanaryError if they differ, ModelProcessError if it cannot be loaded (which it refuses as well where it notices
    a wrong answer itself).
    """
    if wrong := _run([str(folder.absolute()), "--canary"], b"", timeout_seconds)["differences"]:
        raise CanaryError(f"The model's answer to its canary photo is wrong: {'; '.join(wrong)}")


def _run(arguments: list[str], stdin: bytes, timeout_seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        try:
            done = subprocess.run(
                [sys.executable, "-P", str(_WORKER), *arguments],
                input=stdin,
                cwd=scratch,
                env=environment(Path(scratch) / "records"),
                capture_output=True,
                timeout=timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ModelProcessError(f"The model gave no answer within {timeout_seconds:g} s.") from error
    try:
        reply: dict[str, Any] = json.loads(done.stdout)
    except ValueError:  # it was killed, or a library ended the process
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no output"]
        raise ModelProcessError(f"The model's process ended with status {done.returncode}: {lines[-1][:300]}") from None
    if "error" in reply:
        raise ModelProcessError(f"The model cannot be loaded, or fails: {reply['error'][:500]}")
    return reply
