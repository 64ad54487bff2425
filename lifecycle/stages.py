"""Stages of the registry's versions, with the aliases kept in step."""

import warnings
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

STAGES = ("Staging", "Production", "Archived")
ALIASES = {"Staging": "staging", "Production": "production"}
"""Stage -> the alias that points to its version. A stage with an alias holds one version at a time."""


class StageError(ValueError):
    """A transition that cannot be made; the message says why."""


@dataclass(frozen=True)
class VersionSummary:
    """A row of `register.py list`."""

    version: str
    stage: str
    aliases: tuple[str, ...]
    created: datetime
    """UTC"""
    runtime: str
    run_id: str


def promote(name: str, version: str, stage: str) -> str:
    """Move a version to a stage and the alias with it; returns the stage it came from.

    The version that was in Staging or Production before goes to Archived. Raises StageError.
    """
    if stage not in STAGES:
        raise StageError(f"stage={stage!r} is not known. Expected one of {', '.join(STAGES)}.")
    client = MlflowClient()
    try:
        before = client.get_model_version(name, version)
    except MlflowException as error:
        raise StageError(f"{name} has no version {version} in this registry ({error.message}).") from error
    with warnings.catch_warnings():
        # Stages are deprecated in MLflow but are what this product's users work with; aliases go along for the day they end.
        warnings.filterwarnings("ignore", message=".*transition_model_version_stage.*", category=FutureWarning)
        client.transition_model_version_stage(name, version, stage, archive_existing_versions=stage in ALIASES)
    if stage in ALIASES:
        client.set_registered_model_alias(name, ALIASES[stage], version)
    for other, alias in ALIASES.items():
        if other != stage and _holder(client, name, alias) == str(version):
            client.delete_registered_model_alias(name, alias)
    return before.current_stage or "None"


def list_versions(name: str) -> list[VersionSummary]:
    """All versions of a registered model, newest first; empty if there are none."""
    client = MlflowClient()
    versions = client.search_model_versions(f"name = '{name}'")
    aliases = _aliases(client, name) if versions else {}
    return [
        VersionSummary(
            str(version.version),
            version.current_stage or "None",
            tuple(alias for alias, holder in aliases.items() if holder == str(version.version)),
            datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
            version.tags.get("runtime", ""),
            version.run_id or "",
        )
        for version in sorted(versions, key=lambda version: int(version.version), reverse=True)
    ]


def _aliases(client: MlflowClient, name: str) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}


def _holder(client: MlflowClient, name: str, alias: str) -> str | None:
    return _aliases(client, name).get(alias)
