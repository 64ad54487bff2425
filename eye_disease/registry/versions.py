"""What the registry says now: the versions of a model, their stages and aliases."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from eye_disease.common.errors import UserError

STAGES = ("Staging", "Production", "Archived")
ALIASES = {"Staging": "staging", "Production": "production"}
"""Stage -> the alias that points to its version. A stage with an alias holds one version at a time."""
NO_STAGE = "None"


class StageError(UserError):
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


@dataclass(frozen=True)
class Seen:
    """Stages and aliases as the registry holds them."""

    stages: dict[str, str]
    """Version -> stage, for every version."""
    aliases: dict[str, str]
    """Alias -> version; only the aliases that belong to a stage."""
    updated: dict[str, datetime]
    """Version -> when its stage or description was last changed (UTC, the server's clock)."""

    def holder(self, stage: str) -> str | None:
        """The version that `models:/NAME/<stage>` gives: MLflow takes the highest number where several are in a stage."""
        return max((version for version, held in self.stages.items() if held == stage), key=int, default=None)

    def disagreements(self) -> list[str]:
        """A sentence for each stage whose alias points elsewhere; empty if all agree."""
        return [
            f"the stage {stage} holds {_or_nothing(self.holder(stage))}, "
            f"the alias @{alias} points to {_or_nothing(self.aliases.get(alias))}"
            for stage, alias in ALIASES.items()
            if self.holder(stage) != self.aliases.get(alias)
        ]


def look(client: MlflowClient, name: str) -> Seen:
    """Read stages and aliases. Raises StageError if there is no such model."""
    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException as error:
        raise StageError(f"{name} cannot be read from this registry ({error.message}).") from error
    versions = client.search_model_versions(f"name = '{name}'")
    return Seen(
        {str(one.version): one.current_stage or NO_STAGE for one in versions},
        {alias: str(version) for alias, version in aliases.items() if alias in ALIASES.values()},
        {str(one.version): datetime.fromtimestamp(one.last_updated_timestamp / 1000, UTC) for one in versions},
    )


def list_versions(name: str) -> list[VersionSummary]:
    """All versions of a registered model, newest first; empty if there are none."""
    client = MlflowClient()
    versions = client.search_model_versions(f"name = '{name}'")
    aliases = client.get_registered_model(name).aliases if versions else {}
    return [
        VersionSummary(
            str(version.version),
            version.current_stage or NO_STAGE,
            tuple(alias for alias, holder in aliases.items() if str(holder) == str(version.version)),
            datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
            version.tags.get("runtime", ""),
            version.run_id or "",
        )
        for version in sorted(versions, key=lambda version: int(version.version), reverse=True)
    ]


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Inside, what MLflow refuses becomes a StageError that says what was being done."""
    try:
        yield
    except MlflowException as error:
        denied = ". Ask an administrator for EDIT permission." if error.error_code == "PERMISSION_DENIED" else ""
        raise StageError(f"{doing} failed: {error.message.rstrip('.')}{denied or '.'}") from error


def _or_nothing(version: str | None) -> str:
    return f"version {version}" if version else "nothing"
