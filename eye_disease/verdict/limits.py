"""The DRIFT_* settings: limits of a verdict."""

from dataclasses import dataclass

from model_code.setting_fields import Settings, number, whole


@dataclass(frozen=True)
class DriftLimits(Settings):
    """Every limit of a verdict; shares, probabilities and distances are 0..1."""

    min_predictions: int = whole("DRIFT_MIN_PREDICTIONS", 50)
    """A window with fewer answers waits for more."""
    max_wait_hours: int = whole("DRIFT_MAX_WAIT_HOURS", 24)
    """How long such a window waits; then it is `insufficient_data`."""
    raise_after: int = whole("DRIFT_RAISE_AFTER", 2)
    """Bad windows in a row that raise an alarm."""
    clear_after: int = whole("DRIFT_CLEAR_AFTER", 3)
    """Good windows in a row that clear it."""
    min_confidence: float = number("DRIFT_MIN_CONFIDENCE", 0.60, 0, 1)
    """Rule: mean confidence of a window."""
    max_low_confidence_share: float = number("DRIFT_MAX_LOW_CONFIDENCE_SHARE", 0.30, 0, 1)
    """Rule: share of answers below the model's confidence limit."""
    max_inference_time_ms: float = number("DRIFT_MAX_INFERENCE_TIME_MS", 5_000, 1, 3_600_000)
    """Rule: mean inference time."""
    max_class_share: float = number("DRIFT_MAX_CLASS_SHARE", 0.80, 0, 1)
    """Rule: share of answers with the commonest class."""
    alpha: float = number("DRIFT_ALPHA", 0.01, 1e-6, 0.5)
    """Probability that a window without drift is called drift, all streams and sites together."""
    min_ks: float = number("DRIFT_MIN_KS", 0.10, 0, 1)
    """Smallest Kolmogorov-Smirnov distance of a stream that matters, however many predictions show it."""
    min_js: float = number("DRIFT_MIN_JS", 0.10, 0, 1)
    """Smallest Jensen-Shannon distance of the class mix that matters."""
    min_share_change: float = number("DRIFT_MIN_SHARE_CHANGE", 0.05, 0, 1)
    """Smallest change of the ungradable and out-of-distribution shares that matters."""
    min_mmd: float = number("DRIFT_MIN_MMD", 0.005, 0, 2)
    """Smallest squared maximum mean discrepancy of the embedding that matters."""
    min_domain_accuracy: float = number("DRIFT_MIN_DOMAIN_ACCURACY", 0.55, 0.5, 1)
    """Smallest balanced accuracy of telling window from reference by the embedding that matters; 0.5 is chance."""
    max_accuracy_drop: float = number("DRIFT_MAX_ACCURACY_DROP", 0.05, 0, 1)
    """How far accuracy, estimated or realised, may fall below the reference's."""
    max_error_share: float = number("DRIFT_MAX_ERROR_SHARE", 0.05, 0, 1)
    """Share of records with an error."""
    max_p99_ms: float = number("DRIFT_MAX_P99_MS", 10_000, 1, 3_600_000)
    """99th percentile of the inference time; beyond it is a warning."""
    max_lost_share: float = number("DRIFT_MAX_LOST_SHARE", 0.01, 0, 1)
    """Share of records that were lost; beyond it is a warning."""
