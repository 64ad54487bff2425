"""Typed settings of retraining."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from model_code.settings import read_bool, read_int


@dataclass(frozen=True)
class RetrainSettings:
    """What `retrain.py` reads from its environment."""

    min_labels: int = 50
    """RETRAIN_MIN_LABELS: labelled photos that no retraining has used yet, below which there is nothing to learn."""
    promote: bool = False
    """RETRAIN_PROMOTE: put a candidate that passes the gate into Production, without a person."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Read every RETRAIN_* setting. Raises SettingError for the first wrong one."""
        env = os.environ if env is None else env
        return cls(
            min_labels=read_int(env, "RETRAIN_MIN_LABELS", cls.min_labels),
            promote=read_bool(env, "RETRAIN_PROMOTE", cls.promote),
        )
