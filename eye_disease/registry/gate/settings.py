"""What the gate asks of a version before it may go to Production: the GATE_* settings."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from model_code.errors import SettingError
from model_code.settings import read_bool, read_int, read_number

ENV_MANAGERS = ("uv", "virtualenv", "local")


@dataclass(frozen=True)
class GateSettings:
    """Every limit of the gate; shares, recalls and calibration errors are 0..1."""

    data: Path | None = None
    """GATE_DATA: labelled photos, where a command names none: a folder with one subfolder a class, or a manifest CSV."""
    photos: Path | None = None
    """GATE_PHOTOS: where the manifest's paths start; None: the manifest's own folder."""
    env_manager: str = "local"
    """GATE_ENV_MANAGER: what makes the version's environment: uv, virtualenv, or local, which is this process's own."""
    timeout_seconds: int = 900
    """GATE_TIMEOUT_SECONDS: how long a version may take to be served, its environment made anew if need be."""
    recompute_agreement: bool = True
    """GATE_RECOMPUTE_AGREEMENT: compare LiteRT with Keras once more where TensorFlow is installed."""
    max_latency_ms: float = 1_000
    """GATE_MAX_LATENCY_MS: of the median time to the answer to one photo, over HTTP."""
    min_photos: int = 100
    """GATE_MIN_PHOTOS: labelled photos below which a version is not judged."""
    min_accuracy: float = 0.75
    """GATE_MIN_ACCURACY"""
    min_macro_f1: float = 0.70
    """GATE_MIN_MACRO_F1"""
    min_recall: float = 0.60
    """GATE_MIN_RECALL: of every class."""
    max_calibration_error: float = 0.10
    """GATE_MAX_CALIBRATION_ERROR: expected calibration error, 15 bins."""
    alpha: float = 0.05
    """GATE_ALPHA: a version with p below it in the paired test against Production is significantly worse."""
    max_recall_loss: float = 0.05
    """GATE_MAX_RECALL_LOSS: how far the recall of a class may fall below Production's on the same photos."""
    max_calibration_loss: float = 0.03
    """GATE_MAX_CALIBRATION_LOSS: how far the calibration error may rise above Production's on the same photos."""
    max_group_gap: float | None = None
    """GATE_MAX_GROUP_GAP: how much worse than the others an age band or a sex may fare, where chance does not explain it; None:
    such a gap is warned of, and refuses nothing."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Read every GATE_* setting. Raises SettingError for the first wrong one."""
        env = os.environ if env is None else env
        return cls(
            data=Path(env["GATE_DATA"]) if env.get("GATE_DATA") else None,
            photos=Path(env["GATE_PHOTOS"]) if env.get("GATE_PHOTOS") else None,
            env_manager=_read_env_manager(env),
            timeout_seconds=read_int(env, "GATE_TIMEOUT_SECONDS", cls.timeout_seconds),
            recompute_agreement=read_bool(env, "GATE_RECOMPUTE_AGREEMENT", cls.recompute_agreement),
            max_latency_ms=read_number(env, "GATE_MAX_LATENCY_MS", cls.max_latency_ms, 1, 3_600_000),
            min_photos=read_int(env, "GATE_MIN_PHOTOS", cls.min_photos),
            min_accuracy=read_number(env, "GATE_MIN_ACCURACY", cls.min_accuracy, 0, 1),
            min_macro_f1=read_number(env, "GATE_MIN_MACRO_F1", cls.min_macro_f1, 0, 1),
            min_recall=read_number(env, "GATE_MIN_RECALL", cls.min_recall, 0, 1),
            max_calibration_error=read_number(env, "GATE_MAX_CALIBRATION_ERROR", cls.max_calibration_error, 0, 1),
            alpha=read_number(env, "GATE_ALPHA", cls.alpha, 1e-6, 0.5),
            max_recall_loss=read_number(env, "GATE_MAX_RECALL_LOSS", cls.max_recall_loss, 0, 1),
            max_calibration_loss=read_number(env, "GATE_MAX_CALIBRATION_LOSS", cls.max_calibration_loss, 0, 1),
            max_group_gap=read_number(env, "GATE_MAX_GROUP_GAP", 1, 0, 1) if env.get("GATE_MAX_GROUP_GAP") else None,
        )


def _read_env_manager(env: Mapping[str, str]) -> str:
    name = "GATE_ENV_MANAGER"
    given = env.get(name, "").strip() or ("uv" if shutil.which("uv") else "virtualenv")
    if given not in ENV_MANAGERS:
        raise SettingError(name, env[name], ", ".join(ENV_MANAGERS))
    return given
