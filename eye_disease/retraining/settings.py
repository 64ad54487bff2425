"""Typed settings of retraining."""

from dataclasses import dataclass

from model_code.setting_fields import Settings, boolean, whole


@dataclass(frozen=True)
class RetrainSettings(Settings):
    """What `retrain.py` reads from its environment."""

    min_labels: int = whole("RETRAIN_MIN_LABELS", 50)
    """Labelled photos that no retraining has used yet, below which there is nothing to learn."""
    promote: bool = boolean("RETRAIN_PROMOTE", False)
    """Put a candidate that passes the gate into Production, without a person."""
