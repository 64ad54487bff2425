"""The only reader of the registry: which versions a model has, which stage and alias each is in, and their files.

What is in Production is what MLflow gives for `models:/NAME/Production`: the stage decides, everywhere in this project. Whoever
has read it (`RegistryState`) hands it on.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Self

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException

from eye_disease.common.errors import TrackingUnavailableError, UserError
from eye_disease.common.mlflow_client import MISSING, is_unanswered, quoted, tracking_call, unanswered
from model_code.package import PACKAGE_ARTIFACT, ModelFacts, file_sha256

STAGES = ("Staging", "Production", "Archived")
ALIASES = {"Staging": "staging", "Production": "production"}
"""Stage -> the alias that points to its version. A stage with an alias holds one version at a time."""
NO_STAGE = "None"
_NOT_OF_THE_MODEL = {"registered_model_meta"}
"""MLflow adds it to a download."""


class StageError(UserError):
    """A transition that cannot be made; the message says why."""


class VersionError(UserError):
    """There is no such version, its files are gone, or it is not a model of this project."""


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
    tags: dict[str, str]


@dataclass(frozen=True)
class RegistryState:
    """Stages and aliases as the registry holds them."""

    stages: dict[str, str]
    """Version -> stage, for every version."""
    aliases: dict[str, str]
    """Alias -> version; only the aliases that belong to a stage."""
    updated: dict[str, datetime]
    """Version -> when its stage or description was last changed (UTC, the server's clock)."""

    def holder(self, stage: str) -> str | None:
        """The version that `models:/NAME/<stage>` gives: MLflow takes the highest number where several are in a stage."""
        return max((version for version, its_stage in self.stages.items() if its_stage == stage), key=int, default=None)

    def disagreements(self) -> list[str]:
        """A sentence for each stage whose alias points elsewhere; empty if all agree."""
        return [
            f"the stage {stage} holds {_or_nothing(self.holder(stage))}, "
            f"the alias @{alias} points to {_or_nothing(self.aliases.get(alias))}"
            for stage, alias in ALIASES.items()
            if self.holder(stage) != self.aliases.get(alias)
        ]


@dataclass(frozen=True)
class FetchedVersion:
    """A version's files on this machine."""

    name: str
    version: str
    folder: Path
    """The MLflow model folder."""

    @classmethod
    def fetch(cls, name: str, version: str, below: Path) -> Self:
        """Download a version's files into a folder `below`. Raises VersionError, TrackingUnavailableError."""
        with explained(f"Fetching {name} version {version}", VersionError):
            try:
                MlflowClient().get_model_version(name, version)
            except MlflowException as error:
                if error.error_code != MISSING:
                    raise
                raise VersionError(f"{name} has no version {version} in this registry.") from error
            folder = mlflow.artifacts.download_artifacts(f"models:/{name}/{version}", dst_path=str(below / str(version)))
        if not (Path(folder) / "MLmodel").is_file():
            raise VersionError(f"The files of {name} version {version} are gone: it holds no MLmodel.")
        return cls(name, str(version), Path(folder))

    @property
    def package(self) -> Path:
        """The model package's folder."""
        return package_of(self.folder)

    @cached_property
    def facts(self) -> ModelFacts:
        """Its `model.json`. Raises VersionError."""
        if not self.package.is_dir():
            raise VersionError(f"{self.name} version {self.version} holds no model package. Register it with register.py.")
        try:
            return ModelFacts.load(self.package)
        except ValueError as error:
            raise VersionError(f"{self.name} version {self.version}: {error}") from error

    @cached_property
    def behaviour_sha256(self) -> str:
        """Over all that its answers depend on: package, code and requirements. Two versions with it answer alike."""
        digest = hashlib.sha256()
        files = [*self.package.rglob("*"), *(self.folder / "code").rglob("*.py"), self.folder / "requirements.txt"]
        for path in sorted(path for path in files if path.is_file() and path.suffix != ".md"):
            digest.update(f"{path.relative_to(self.folder)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
        return digest.hexdigest()

    @cached_property
    def files_sha256(self) -> str:
        """Over the names and SHA-256 of all its files, so that what is promoted, rolled back to and audited is the same."""
        files = {path.relative_to(self.folder).as_posix(): path for path in self.folder.rglob("*") if path.is_file()}
        whole = hashlib.sha256()
        for relative in sorted(files.keys() - _NOT_OF_THE_MODEL):
            whole.update(f"{relative}\0{file_sha256(files[relative])}\n".encode())
        return whole.hexdigest()


def package_of(model_folder: Path) -> Path:
    """Where an MLflow model of this project keeps its package."""
    return model_folder / "artifacts" / PACKAGE_ARTIFACT


def fetch_package_files(name: str, version: str, files: Sequence[str], below: Path) -> Path:
    """Download some files of a version's package, as many of them as it has; returns their folder. Raises MlflowException."""
    uri = f"models:/{name}/{version}/{package_of(Path()).as_posix()}"
    package = package_of(below)
    package.mkdir(parents=True, exist_ok=True)
    present = {Path(file.path).name for file in mlflow.artifacts.list_artifacts(uri)}
    for file in sorted(present.intersection(files)):
        mlflow.artifacts.download_artifacts(f"{uri}/{file}", dst_path=str(below))
    return package


def read_registry(client: MlflowClient, name: str) -> RegistryState:
    """Read stages and aliases. Raises StageError if there is no such model, TrackingUnavailableError."""
    with explained(f"Reading {name} from this registry"):
        aliases = client.get_registered_model(name).aliases
        versions = _versions(client, name)
    return RegistryState(
        {str(version.version): version.current_stage or NO_STAGE for version in versions},
        {alias: str(version) for alias, version in aliases.items() if alias in ALIASES.values()},
        {
            str(version.version): datetime.fromtimestamp(version.last_updated_timestamp / 1000, UTC)
            for version in versions
            if version.last_updated_timestamp
        },
    )


def in_stage(name: str, stage: str) -> VersionSummary | None:
    """The version that `models:/NAME/<stage>` gives, by the rule of `RegistryState.holder`.

    None if there is none, or no such model. Raises TrackingUnavailableError, StageError.
    """
    return next((version for version in list_versions(name) if version.stage == stage), None)


def version_in_production(name: str, timeout_seconds: int) -> str | None:
    """Its number, for those who can ask again later; None if there is none.

    timeout_seconds: for each request. Raises TrackingUnavailableError, whatever it is that the server does not tell.
    """
    try:
        with tracking_call(timeout_seconds):
            version = in_stage(name, "Production")
    except StageError as error:
        raise TrackingUnavailableError(str(error)) from error
    return version.version if version else None


def list_versions(name: str) -> list[VersionSummary]:
    """All versions of a registered model, newest first; empty if there are none. Raises TrackingUnavailableError."""
    client = MlflowClient()
    with explained(f"Reading {name} from this registry"):
        versions = _versions(client, name)
        aliases = client.get_registered_model(name).aliases if versions else {}
    return [
        VersionSummary(
            str(version.version),
            version.current_stage or NO_STAGE,
            tuple(alias for alias, holder in aliases.items() if str(holder) == str(version.version)),
            datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
            version.tags.get("runtime", ""),
            version.run_id or "",
            version.tags,
        )
        for version in sorted(versions, key=lambda version: int(version.version), reverse=True)
    ]


def resolve_version(uri: str) -> tuple[str, str]:
    """`models:/NAME/Production` (a stage, a number), or `models:/NAME@alias` -> name and version number.

    Raises VersionError, StageError for an unknown model.
    """
    match = re.fullmatch(r"models:/([^/@]+)(?:/([^/@]+)|@([^/@]+))", uri)
    if match is None:
        raise VersionError(f"{uri!r} names no version. Expected models:/NAME/Production, models:/NAME/3 or models:/NAME@alias.")
    name, target, alias = match.groups()
    client = MlflowClient()
    registry = read_registry(client, name)
    if alias:
        with explained(f"Reading {uri}", VersionError):
            return name, str(client.get_model_version_by_alias(name, alias).version)
    version = registry.holder(target) if target in STAGES else target
    if version is None or version not in registry.stages:
        raise VersionError(
            f"{uri}: {name} has no version {'in ' if target in STAGES else ''}{target}. Promote or register one first."
        )
    return name, version


@contextmanager
def explained(doing: str, kind: type[UserError] = StageError) -> Iterator[None]:
    """Inside, what MLflow refuses becomes an error of `kind` that says what was being done; TrackingUnavailableError if its
    server does not answer.
    """
    try:
        yield
    except MlflowException as error:
        if is_unanswered(error):
            raise TrackingUnavailableError(f"{doing} failed: {unanswered(error)}") from error
        denied = ". Ask an administrator for EDIT permission." if error.error_code == "PERMISSION_DENIED" else ""
        raise kind(f"{doing} failed: {error.message.rstrip('.')}{denied or '.'}") from error
    except RequestException as error:
        raise TrackingUnavailableError(f"{doing} failed: {unanswered(error)}") from error
    except OSError as error:  # files of an artifact store on this machine
        raise kind(f"{doing} failed: {error}") from error


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    return list(client.search_model_versions(f"name = {quoted(name)}"))


def _or_nothing(version: str | None) -> str:
    return f"version {version}" if version else "nothing"
