"""When a challenger has shown enough: the COMPARE_* settings."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from model_code.settings import read_int, read_number


@dataclass(frozen=True)
class CompareLimits:
    """Every limit of a comparison's decision; shares are 0..1."""

    alpha: float = 0.05
    """COMPARE_ALPHA: probability that the labels ever speak for the wrong version, however often one looks."""
    margin: float = 0.02
    """COMPARE_MARGIN: how much less accurate than the champion a challenger may be that is promoted; 0: it must be better."""
    max_recall_loss: float = 0.05
    """COMPARE_MAX_RECALL_LOSS: recall of a class that a promoted challenger may lose."""
    min_labels: int = 50
    """COMPARE_MIN_LABELS: labelled answers of each version before anything is decided."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Read every COMPARE_* setting. Raises SettingError for the first wrong one."""
        env = os.environ if env is None else env
        return cls(
            alpha=read_number(env, "COMPARE_ALPHA", cls.alpha, 1e-6, 0.5),
            margin=read_number(env, "COMPARE_MARGIN", cls.margin, 0, 0.5),
            max_recall_loss=read_number(env, "COMPARE_MAX_RECALL_LOSS", cls.max_recall_loss, 0, 1),
            min_labels=read_int(env, "COMPARE_MIN_LABELS", cls.min_labels),
        )
