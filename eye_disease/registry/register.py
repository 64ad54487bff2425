"""Registers a model package: check its name, log it, check that it serves, then make it a version."""

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

from eye_disease.common.errors import UserError
from eye_disease.common.mlflow_client import experiment_id, experiment_name
from eye_disease.common.model_process import CanaryError, ModelProcessError, ask, require_canary
from eye_disease.common.text import one_line
from eye_disease.evaluation.figures import Figures
from eye_disease.registry.mlflow_model import log_package
from eye_disease.registry.model_card import publish_card
from eye_disease.registry.versions import FetchedVersion
from model_code.package import LITERT_FILE, ModelFacts, file_sha256

_NAME = re.compile(r"[^\W_](?:[\w .'()+,&-]*[\w')])?")
_LONGEST_NAME = 150
"""Bytes; file systems take 255, of a name that locks and temporary folders make longer."""


class RegistrationError(UserError):
    """The model must not be registered: it is not what was checked, or does not answer as expected."""


@dataclass(frozen=True)
class RegisteredVersion:
    """A new version."""

    name: str
    version: str
    run_id: str


def check_name(name: str) -> None:
    """Raises UserError for a name that MLflow takes, but its searches and URIs, a record's folder or monitoring do not."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"The model name {one_line(repr(name))} cannot be used. Expected letters, digits, spaces and any of "
            "- _ . ' ( ) + , &; a letter or digit first, and no space, dot or dash last."
        )
    if len(name.encode()) > _LONGEST_NAME:
        raise UserError(
            f"The model name {one_line(name)!r} is {len(name.encode())} bytes long. Expected {_LONGEST_NAME} at most."
        )
    if re.search(r"\.lock-\d+$", name):
        raise UserError(f"The model name {one_line(name)!r} cannot be used: names that end in .lock-<number> are locks.")


def register_package(package: Path, name: str) -> RegisteredVersion:
    """Log a model package and register it as the next version of `name`.

    Raises RegistrationError if its LiteRT file is not the one that was compared with Keras, or if the logged model, in a
    process of its own, does not give the canary's expected answer; UserError for a name that cannot be followed. No version
    is made then.
    """
    check_name(name)
    facts = ModelFacts.load(package)
    _require_checked_litert(package, facts)
    if "MLFLOW_RUN_ID" not in os.environ:  # `mlflow run` has chosen the experiment already
        mlflow.set_experiment(experiment_id=experiment_id(MlflowClient(), experiment_name()))
    with mlflow.start_run(run_name=None if "MLFLOW_RUN_ID" in os.environ else f"register {name}") as run:
        info = log_package(package)
        mlflow.log_params(_params(facts))
        if stored := facts.provenance.get("validation"):
            figures = {f"validation_{key}": value for key, value in Figures.from_dict(stored).metrics().items()}
            mlflow.log_metrics(figures, model_id=info.model_id)
        with tempfile.TemporaryDirectory() as folder:
            model = Path(mlflow.artifacts.download_artifacts(info.model_uri, dst_path=folder))
            _require_own_answer(model)
            version = mlflow.register_model(info.model_uri, name)
            client = MlflowClient()
            for key, value in {"runtime": facts.runtime, "classes": ",".join(facts.classes)}.items():
                client.set_model_version_tag(name, version.version, key, value)
            publish_card(FetchedVersion(name, str(version.version), model), run.info.run_id)
    return RegisteredVersion(name, str(version.version), run.info.run_id)


def score_photo(version: RegisteredVersion, photo: Path) -> dict[str, Any]:
    """A version's answer to an image file, as a check after registration; not put on record, since it is no traffic.

    Raises VersionError, ModelProcessError, TrackingUnavailableError, OSError.
    """
    with tempfile.TemporaryDirectory() as folder:
        return ask(FetchedVersion.fetch(version.name, version.version, Path(folder)).folder, photo.read_bytes())


def _require_own_answer(model: Path) -> None:
    try:
        require_canary(model)
    except (CanaryError, ModelProcessError) as error:
        raise RegistrationError(str(error)) from error


def _require_checked_litert(package: Path, facts: ModelFacts) -> None:
    if facts.runtime != "litert":
        return
    checked = facts.provenance.get("keras_agreement", {}).get("litert_sha256")
    digest = file_sha256(package / LITERT_FILE)
    if digest != checked:
        raise RegistrationError(
            f"{package / LITERT_FILE} is not the file that was compared with its Keras source "
            f"(SHA-256 {digest[:12]}, compared: {str(checked)[:12]}). Build the package again from the Keras file."
        )


def _params(facts: ModelFacts) -> dict[str, Any]:
    recipe = {f"model.{name}": value for name, value in vars(facts.recipe).items()}
    own = {"model.classes": ",".join(facts.classes), "model.runtime": facts.runtime, "model.temperature": facts.temperature}
    return own | recipe
