"""The GATE_* settings: limits that a version must meet before it may go to Production."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model_code.errors import SettingError
from model_code.setting_fields import Settings, boolean, declared, number, read_number, whole

ENV_MANAGERS = ("uv", "virtualenv", "local")


def _read_env_manager(env: Mapping[str, str]) -> str:
    name = "GATE_ENV_MANAGER"
    manager = env.get(name, "").strip() or ("uv" if shutil.which("uv") else "virtualenv")
    if manager not in ENV_MANAGERS:
        raise SettingError(name, env[name], ", ".join(ENV_MANAGERS))
    return manager


def _read_group_gap(env: Mapping[str, str]) -> float | None:
    name = "GATE_MAX_GROUP_GAP"
    return read_number(env, name, 1, 0, 1) if env.get(name) else None


def _path(env: Mapping[str, str], name: str) -> Path | None:
    return Path(env[name]) if env.get(name) else None


@dataclass(frozen=True)
class GateSettings(Settings):
    """Every limit of the gate; shares, recalls and calibration errors are 0..1."""

    data: Path | None = declared("GATE_DATA", lambda env: _path(env, "GATE_DATA"), "a folder or a file", "none")
    """Labelled photos, where a command names none: a folder with one subfolder a class, or a manifest."""
    photos: Path | None = declared("GATE_PHOTOS", lambda env: _path(env, "GATE_PHOTOS"), "a folder", "none")
    """Where the manifest's paths start; none: the manifest's own folder."""
    env_manager: str = declared(
        "GATE_ENV_MANAGER", _read_env_manager, ", ".join(ENV_MANAGERS), "uv, else virtualenv", lambda: "local"
    )
    """What makes the environment of the version that is judged; `local`: none is made, this process's own is used."""
    timeout_seconds: int = whole("GATE_TIMEOUT_SECONDS", 900)
    """How long a version may take to be served, its environment made anew if need be."""
    recompute_agreement: bool = boolean("GATE_RECOMPUTE_AGREEMENT", True)
    """Compare LiteRT with Keras once more, where TensorFlow is installed."""
    max_latency_ms: float = number("GATE_MAX_LATENCY_MS", 1_000, 1, 3_600_000)
    """Median time to the answer to one photo, over HTTP."""
    min_photos: int = whole("GATE_MIN_PHOTOS", 100)
    """Labelled photos below which a version is not judged by them."""
    min_accuracy: float = number("GATE_MIN_ACCURACY", 0.75, 0, 1)
    """Share of right answers."""
    min_macro_f1: float = number("GATE_MIN_MACRO_F1", 0.70, 0, 1)
    """Mean F1 of the classes."""
    min_recall: float = number("GATE_MIN_RECALL", 0.60, 0, 1)
    """Recall of every class."""
    max_calibration_error: float = number("GATE_MAX_CALIBRATION_ERROR", 0.10, 0, 1)
    """Expected calibration error, 15 bins."""
    alpha: float = number("GATE_ALPHA", 0.05, 1e-6, 0.5)
    """p of the paired test below which a version is significantly worse than the one in Production."""
    max_recall_loss: float = number("GATE_MAX_RECALL_LOSS", 0.05, 0, 1)
    """How far the recall of a class may fall below Production's on the same photos."""
    max_calibration_loss: float = number("GATE_MAX_CALIBRATION_LOSS", 0.03, 0, 1)
    """How far the calibration error may rise above Production's on the same photos."""
    max_group_gap: float | None = declared("GATE_MAX_GROUP_GAP", _read_group_gap, "a number, 0 to 1", "none")
    """How much worse than the others an age band or a sex may fare, where chance does not explain it; none: such a gap is
    warned of, and refuses nothing."""
