"""When a challenger has shown enough: the COMPARE_* settings."""

from dataclasses import dataclass

from model_code.setting_fields import Settings, number, whole


@dataclass(frozen=True)
class CompareLimits(Settings):
    """Every limit of a comparison's decision; shares are 0..1."""

    alpha: float = number("COMPARE_ALPHA", 0.05, 1e-6, 0.5)
    """Probability that the labels ever speak for the wrong version, however often one looks."""
    margin: float = number("COMPARE_MARGIN", 0.02, 0, 0.5)
    """How much less accurate than the champion a challenger may be that is promoted; 0: it must be better."""
    max_recall_loss: float = number("COMPARE_MAX_RECALL_LOSS", 0.05, 0, 1)
    """Recall of a class that a promoted challenger may lose."""
    min_labels: int = whole("COMPARE_MIN_LABELS", 50)
    """Labelled answers of each version before anything is decided."""
