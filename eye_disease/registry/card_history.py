"""The previous versions of a model, for the card of the next."""

from dataclasses import dataclass
from datetime import datetime

from mlflow import MlflowClient

from eye_disease.registry.versions import list_versions

MOST = 10
"""Forerunners of a card."""


@dataclass(frozen=True)
class Ancestor:
    """An earlier version of the same model."""

    version: str
    created: datetime
    """UTC"""
    stage: str
    gate: str
    """`passed`, `refused`, or empty: not run."""
    accuracy: float | None
    """On its own validation photos; None where it is not recorded."""


def ancestors(name: str, version: str) -> list[Ancestor]:
    """The versions before `version`, newest first, MOST at most."""
    client = MlflowClient()
    earlier = [summary for summary in list_versions(name) if int(summary.version) < int(version)]
    return [
        Ancestor(
            summary.version,
            summary.created,
            summary.stage,
            summary.tags.get("gate", ""),
            client.get_run(summary.run_id).data.metrics.get("validation_accuracy") if summary.run_id else None,
        )
        for summary in earlier[:MOST]
    ]
