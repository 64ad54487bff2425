"""Which labels earlier retrainings have used."""

from datetime import datetime

from eye_disease.registry.versions import list_versions


def labels_used_until(name: str) -> datetime | None:
    """Time of the newest label that a version of this model was retrained with; None if none was."""
    tags = [version.tags for version in list_versions(name)]
    times = [datetime.fromisoformat(held["feedback_until"]) for held in tags if "feedback_until" in held]
    return max(times, default=None)
