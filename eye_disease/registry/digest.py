"""A version's files in one number, so that what is promoted, rolled back to and audited can be told to be the same."""

import hashlib
import tempfile
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from eye_disease.registry.versions import StageError
from model_code.package import file_sha256

_NOT_OF_THE_MODEL = {"registered_model_meta"}
"""MLflow adds it to a download."""


def model_digest(name: str, version: str) -> str:
    """SHA-256 over the names and SHA-256 of all files of a version. Raises StageError if they cannot be read."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            model = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}", dst_path=folder))
        except (MlflowException, OSError) as error:
            raise StageError(f"The files of {name} version {version} cannot be read: {error}") from error
        files = {path.relative_to(model).as_posix(): path for path in model.rglob("*") if path.is_file()}
        if not files:
            raise StageError(f"{name} version {version} has no files.")
        whole = hashlib.sha256()
        for relative in sorted(files.keys() - _NOT_OF_THE_MODEL):
            whole.update(f"{relative}\0{file_sha256(files[relative])}\n".encode())
        return whole.hexdigest()
