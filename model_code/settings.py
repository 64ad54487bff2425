"""Typed settings from the environment. A wrong value stops the start and is named."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model_code.errors import SettingError
from model_code.schema import ROLES

PILLOW_MAX_PIXELS = 89_478_485
"""Above it Pillow takes a photo for a decompression bomb; its guard stays on for whatever else runs in the process."""

_QUOTES = ("'", '"')
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_NOT_EXPANDED = re.compile(r"\$\w|\$\{|\$\(|%\w+%|^[A-Za-z]:[\\/]")
"""Variables of a shell, of Windows, and its drives."""
_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}


def read_bool(env: Mapping[str, str], name: str, default: bool) -> bool:
    """The boolean setting `name`; unset or empty means `default`. Raises SettingError."""
    text = env.get(name, "").strip().lower()
    if not text:
        return default
    if text not in _TRUE | _FALSE:
        raise SettingError(name, env[name], "true or false")
    return text in _TRUE


def read_int(env: Mapping[str, str], name: str, default: int, maximum: int | None = None) -> int:
    """The integer setting `name`, from 1 to `maximum`; unset or empty means `default`. Raises SettingError."""
    text = env.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) < 1 or (maximum is not None and int(text) > maximum):
        raise SettingError(name, env[name], f"a whole number, 1 {'or more' if maximum is None else f'to {maximum}'}")
    return int(text)


def read_number(env: Mapping[str, str], name: str, default: float, low: float, high: float) -> float:
    """The setting `name`, a number from `low` to `high`; unset or empty means `default`. Raises SettingError."""
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:  # nan neither
        raise SettingError(name, env[name], f"a number, {low:g} to {high:g}")
    return value


def read_choice(env: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    """The setting `name`, one of `allowed`; unset or empty means the first. Raises SettingError."""
    text = env.get(name, "").strip().lower() or allowed[0]
    if text not in allowed:
        raise SettingError(name, env[name], ", ".join(allowed))
    return text


def read_location(env: Mapping[str, str], name: str, default: str) -> str:
    """The setting `name`, a folder or a URL; unset or empty means `default`. Raises SettingError.

    `~` is the home folder, and quotes around the whole are left out: files of settings (Docker, systemd, .env) are read
    without a shell that would do so.
    """
    text = env.get(name, "").strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES:
        text = text[1:-1].strip()
    if not text:
        return default
    if _URL.match(text):
        scheme = text.partition(":")[0]
        if not text.startswith(f"{scheme}://"):
            raise SettingError(name, f"{scheme}:...", f"a folder, or a URL as {scheme}://bucket/folder")
        return text
    try:
        expanded = str(Path(text).expanduser())
    except RuntimeError:  # no home folder, or no such user
        expanded = text
    if expanded.startswith("~") or text[0] in _QUOTES or text[-1] in _QUOTES or _NOT_EXPANDED.search(text):
        raise SettingError(
            name, env[name], "a folder, written out: no quotes, variables or drive letters, `~` for your own home"
        )
    return expanded


def read_folder(env: Mapping[str, str], name: str, default: str) -> Path:
    """The setting `name`, a folder of this machine, as an absolute path; as `read_location`. Raises SettingError."""
    text = read_location(env, name, default)
    if _URL.match(text):  # which may hold a password
        raise SettingError(
            name, f"{text.partition('://')[0]}://...", "a folder of this machine, as /var/log/eye-disease; no URL"
        )
    return Path(text).absolute()


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class ServingSettings:
    """What a served model reads from its environment when it starts."""

    inference_log_dir: Path
    """INFERENCE_LOG_DIR: where the records go, one folder per model and version."""
    inference_log_required: bool
    """INFERENCE_LOG_REQUIRED: answer nothing (503) while the log cannot be written."""
    max_image_bytes: int
    """MAX_IMAGE_BYTES: largest file, after base64 decoding."""
    max_image_pixels: int
    """MAX_IMAGE_PIXELS: largest width x height, read from the header."""
    max_request_rows: int
    """MAX_REQUEST_ROWS: rows of one request; a larger one is refused whole."""
    inference_threads: int
    """INFERENCE_THREADS: photos worked on at a time by one process."""
    model_source: str
    """MODEL_SOURCE: where the served model came from (registry, cache, bundled); set by `serve.py`."""
    model_role: str
    """MODEL_ROLE: what the answers are for, one of ROLES; kept in every record."""
    decode_timeout_seconds: float = 10.0
    """DECODE_TIMEOUT_SECONDS: how long one photo may be decoded."""
    max_wait_seconds: float = 30.0
    """MAX_WAIT_SECONDS: a request that would wait longer for its turn is refused at once (503)."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> "ServingSettings":
        """Read every serving setting. Raises SettingError for the first wrong one."""
        env = os.environ if env is None else env
        return cls(
            inference_log_dir=read_folder(env, "INFERENCE_LOG_DIR", "inference_logs"),
            inference_log_required=read_bool(env, "INFERENCE_LOG_REQUIRED", False),
            max_image_bytes=read_int(env, "MAX_IMAGE_BYTES", 20 * 2**20),
            max_image_pixels=read_int(env, "MAX_IMAGE_PIXELS", 50_000_000, PILLOW_MAX_PIXELS),
            max_request_rows=read_int(env, "MAX_REQUEST_ROWS", 1_000),
            inference_threads=read_int(env, "INFERENCE_THREADS", min(8, _usable_cores())),
            model_source=env.get("MODEL_SOURCE") or "direct",
            model_role=read_choice(env, "MODEL_ROLE", ROLES),
            decode_timeout_seconds=read_number(env, "DECODE_TIMEOUT_SECONDS", 10.0, 0.1, 600),
            max_wait_seconds=read_number(env, "MAX_WAIT_SECONDS", 30.0, 0.1, 3600),
        )
