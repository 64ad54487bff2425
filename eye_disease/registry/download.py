"""A registered version, downloaded: its model folder, its package, and what its answers depend on."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from eye_disease.common.errors import UserError
from model_code.package import ModelFacts
from model_code.pyfunc_model import PACKAGE_ARTIFACT


class VersionError(UserError):
    """There is no such version, or it is not a model of this project."""


@dataclass(frozen=True)
class FetchedVersion:
    """A version's artifacts on this machine."""

    name: str
    version: str
    folder: Path
    """The MLflow model folder."""

    @classmethod
    def fetch(cls, name: str, version: str, below: Path) -> Self:
        """Download `models:/NAME/VERSION` into a folder `below`. Raises VersionError."""
        try:
            MlflowClient().get_model_version(name, version)
        except MlflowException as error:
            raise VersionError(f"{name} has no version {version} in this registry ({error.message}).") from error
        uri = f"models:/{name}/{version}"
        found = cls(name, version, Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(below / version))))
        if not found.package.is_dir():
            raise VersionError(f"{uri} holds no model package. Register it with register.py.")
        return found

    @property
    def package(self) -> Path:
        """The model package's folder."""
        return self.folder / "artifacts" / PACKAGE_ARTIFACT

    @cached_property
    def facts(self) -> ModelFacts:
        """Its `model.json`. Raises VersionError."""
        try:
            return ModelFacts.load(self.package)
        except ValueError as error:
            raise VersionError(f"{self.name} version {self.version}: {error}") from error

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that its answers depend on: package, code and requirements. Two versions with it answer alike."""
        digest = hashlib.sha256()
        files = [*self.package.rglob("*"), *(self.folder / "code").rglob("*.py"), self.folder / "requirements.txt"]
        for path in sorted(path for path in files if path.is_file() and path.suffix != ".md"):
            digest.update(f"{path.relative_to(self.folder)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
        return digest.hexdigest()
