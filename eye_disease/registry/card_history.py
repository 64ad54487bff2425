"""A version's forerunners, for its card; and the card written into the registry."""

from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow import MlflowClient

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
    earlier = [one for one in client.search_model_versions(f"name = '{name}'") if int(one.version) < int(version)]
    return [
        Ancestor(
            str(one.version),
            datetime.fromtimestamp(one.creation_timestamp / 1000, UTC),
            one.current_stage or "None",
            one.tags.get("gate", ""),
            client.get_run(one.run_id).data.metrics.get("validation_accuracy") if one.run_id else None,
        )
        for one in sorted(earlier, key=lambda one: int(one.version), reverse=True)[:MOST]
    ]
