"""Settings of a served model."""

import os
from dataclasses import dataclass
from pathlib import Path

from model_code.schema import ROLES
from model_code.setting_fields import Settings, boolean, choice, declared, folder, number, read_int, whole

PILLOW_MAX_PIXELS = 89_478_485
"""Above it Pillow takes a photo for a decompression bomb; its guard stays on for whatever else runs in the process."""


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class ServingSettings(Settings):
    """What a served model reads from its environment when it starts."""

    inference_log_dir: Path = folder("INFERENCE_LOG_DIR", "./inference_logs")
    """Where the records go, one folder per model and version."""
    inference_log_required: bool = boolean("INFERENCE_LOG_REQUIRED", False)
    """Answer nothing (503) while the log cannot be written."""
    max_image_bytes: int = whole("MAX_IMAGE_BYTES", 20 * 2**20)
    """Largest file, after base64 decoding."""
    max_image_pixels: int = whole("MAX_IMAGE_PIXELS", 50_000_000, PILLOW_MAX_PIXELS)
    """Largest width x height, read from the header."""
    max_request_rows: int = whole("MAX_REQUEST_ROWS", 1_000)
    """Rows of one request; a larger one is refused whole."""
    inference_threads: int = declared(
        "INFERENCE_THREADS",
        lambda env: read_int(env, "INFERENCE_THREADS", min(8, _usable_cores())),
        "a whole number, 1 or more",
        "cores, at most 8",
    )
    """Photos worked on at a time by one server process; threads for a photo that has it to itself."""
    model_source: str = declared(
        "MODEL_SOURCE", lambda env: env.get("MODEL_SOURCE") or "direct", "registry, cache, bundled or direct", "direct"
    )
    """Where the served model came from; `serve.py` sets it, people do not."""
    model_role: str = choice("MODEL_ROLE", ROLES)
    """What the answers are for; kept in every record."""
    decode_timeout_seconds: float = number("DECODE_TIMEOUT_SECONDS", 10.0, 0.1, 600)
    """How long one photo may be decoded."""
    max_wait_seconds: float = number("MAX_WAIT_SECONDS", 30.0, 0.1, 3600)
    """A request that would wait longer for its turn gets 503 at once. Keep it below MLflow's timeout of 60 s."""
