"""A model package as an MLflow model: code, artifacts, signature, requirements, input example."""

import base64
import importlib.metadata
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.models.model import ModelInfo

import model_code
from eye_disease.common.environment import changed
from model_code.canary import canary_photo
from model_code.identity import VERSION_KEY
from model_code.package import PACKAGE_ARTIFACT, ModelFacts
from model_code.schema import SCHEMA_VERSION, signature

CODE = Path(model_code.__file__).resolve().parent
_SERVING_REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "uuid-utils")
_RUNTIME_REQUIREMENTS = {"litert": ("ai-edge-litert",), "keras": ("tensorflow", "keras")}


def log_package(package: Path) -> ModelInfo:
    """Log a model package to the active MLflow run."""
    with _arguments(package, served_as=None) as arguments:
        logged: ModelInfo = mlflow.pyfunc.log_model(name="model", **arguments)
        return logged


def save_package(package: Path, folder: Path, served_as: str) -> None:
    """Write a model package as an MLflow model folder that answers as version `served_as`; needs no server."""
    with _arguments(package, served_as) as arguments:
        mlflow.pyfunc.save_model(str(folder), **arguments)


def request_table(photo: bytes, image_id: str) -> pd.DataFrame:
    """A request for one image file."""
    return pd.DataFrame({"image": [base64.b64encode(photo).decode()], "image_id": [image_id], "site": ["example"]})


@contextmanager
def _arguments(package: Path, served_as: str | None) -> Iterator[dict[str, Any]]:
    facts = ModelFacts.load(package)
    # MLflow asks the model about the input example: checks are no traffic.
    with tempfile.TemporaryDirectory() as folder, changed(INFERENCE_LOG_DIR=f"{folder}/records"):
        # MLflow names an artifact folder after its source.
        staged = Path(shutil.copytree(package, Path(folder) / PACKAGE_ARTIFACT))
        code = Path(shutil.copytree(CODE, Path(folder) / CODE.name, ignore=shutil.ignore_patterns("__pycache__")))
        yield {
            "python_model": str(code / "served_model.py"),
            "code_paths": [str(code)],
            "artifacts": {PACKAGE_ARTIFACT: str(staged)},
            "signature": signature(facts.classes),
            "input_example": request_table(canary_photo(package), "example-1"),
            "pip_requirements": _pinned(_SERVING_REQUIREMENTS + _RUNTIME_REQUIREMENTS[facts.runtime]),
            "metadata": {
                "classes": list(facts.classes),
                "input_size": facts.recipe.input_size,
                "runtime": facts.runtime,
                "record_schema_version": SCHEMA_VERSION,
                **({VERSION_KEY: served_as} if served_as else {}),
            },
        }


def _pinned(names: tuple[str, ...]) -> list[str]:
    return [f"{name}=={importlib.metadata.version(name)}" for name in names]
