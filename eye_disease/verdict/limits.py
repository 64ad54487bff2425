"""What counts as drift: the DRIFT_* settings."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from model_code.settings import read_int, read_number


@dataclass(frozen=True)
class DriftLimits:
    """Every limit of a verdict; shares, probabilities and distances are 0..1."""

    min_predictions: int = 50
    """DRIFT_MIN_PREDICTIONS: a window with fewer answers waits for more."""
    max_wait_hours: int = 24
    """DRIFT_MAX_WAIT_HOURS: after which it is `insufficient_data`."""
    raise_after: int = 2
    """DRIFT_RAISE_AFTER: bad windows in a row that raise an alarm."""
    clear_after: int = 3
    """DRIFT_CLEAR_AFTER: good windows in a row that clear it."""
    min_confidence: float = 0.60
    """DRIFT_MIN_CONFIDENCE: of the mean confidence."""
    max_low_confidence_share: float = 0.30
    """DRIFT_MAX_LOW_CONFIDENCE_SHARE: of answers below the model's confidence limit."""
    max_inference_time_ms: float = 5_000
    """DRIFT_MAX_INFERENCE_TIME_MS: of the mean inference time."""
    max_class_share: float = 0.80
    """DRIFT_MAX_CLASS_SHARE: of answers with the same class."""
    alpha: float = 0.01
    """DRIFT_ALPHA: probability that a window without drift is called drift, all streams and sites together."""
    min_ks: float = 0.10
    """DRIFT_MIN_KS: smallest KS distance of a stream that matters, however many predictions show it."""
    min_js: float = 0.10
    """DRIFT_MIN_JS: smallest Jensen-Shannon distance of the class mix that matters."""
    min_share_change: float = 0.05
    """DRIFT_MIN_SHARE_CHANGE: smallest change of the ungradable and out-of-distribution shares that matters."""
    min_mmd: float = 0.005
    """DRIFT_MIN_MMD: smallest squared maximum mean discrepancy of the embedding that matters."""
    min_domain_accuracy: float = 0.55
    """DRIFT_MIN_DOMAIN_ACCURACY: smallest balanced accuracy of telling window from reference that matters; 0.5 is chance."""
    max_accuracy_drop: float = 0.05
    """DRIFT_MAX_ACCURACY_DROP: how far accuracy, estimated or realised, may fall below the reference's."""
    max_error_share: float = 0.05
    """DRIFT_MAX_ERROR_SHARE: of records with an error."""
    max_p99_ms: float = 10_000
    """DRIFT_MAX_P99_MS: of the 99th percentile of the inference time; beyond it is a warning."""
    max_lost_share: float = 0.01
    """DRIFT_MAX_LOST_SHARE: of records that were lost; beyond it is a warning."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Read every DRIFT_* setting. Raises SettingError for the first wrong one."""
        env = os.environ if env is None else env
        integers: dict[str, Any] = {
            name: read_int(env, f"DRIFT_{name.upper()}", getattr(cls, name))
            for name in ("min_predictions", "max_wait_hours", "raise_after", "clear_after")
        }
        numbers: dict[str, Any] = {
            name: read_number(env, f"DRIFT_{name.upper()}", getattr(cls, name), *span) for name, span in _RANGES.items()
        }
        return cls(**integers, **numbers)


_SHARE = (0.0, 1.0)
_MILLISECONDS = (1.0, 3_600_000.0)
_RANGES: dict[str, tuple[float, float]] = {
    "min_confidence": _SHARE,
    "max_low_confidence_share": _SHARE,
    "max_inference_time_ms": _MILLISECONDS,
    "max_class_share": _SHARE,
    "alpha": (1e-6, 0.5),
    "min_ks": _SHARE,
    "min_js": _SHARE,
    "min_share_change": _SHARE,
    "min_mmd": (0.0, 2.0),
    "min_domain_accuracy": (0.5, 1.0),
    "max_accuracy_drop": _SHARE,
    "max_error_share": _SHARE,
    "max_p99_ms": _MILLISECONDS,
    "max_lost_share": _SHARE,
}
