"""Registered versions of a few bytes, for tests of what happens to versions rather than in them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from eye_disease.registry.gate.gate import GateResult
from eye_disease.registry.gate.settings import GateSettings
from eye_disease.registry.versions import FetchedVersion, RegistryState, read_registry


@contextmanager
def sqlite_store(folder: Path) -> Iterator[str]:
    """Inside, a new registry in a folder is this process's; yields its URI. No server is at work."""
    uri = f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # artifacts go to `mlruns` of the working directory
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        try:
            yield uri
        finally:
            mlflow.set_tracking_uri(None)


def make_versions(client: MlflowClient, name: str, count: int) -> None:
    """Register a model with `count` versions in no stage, each with files of its own."""
    client.create_registered_model(name)
    experiment = client.create_experiment(f"{name}-files")
    for _ in range(count):
        make_version(client, name, experiment)


def make_version(client: MlflowClient, name: str, experiment: str) -> str:
    """One more version of a few bytes."""
    run = client.create_run(experiment)
    client.log_text(run.info.run_id, f"files of run {run.info.run_id}", "model/MLmodel")
    return str(client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id).version)


def passed(name: str, version: str) -> GateResult:
    """A gate that has found nothing wrong."""
    return GateResult(version, True, (), f"evidence-of-{version}", read_registry(MlflowClient(), name).holder("Production"))


def refused(name: str, version: str) -> GateResult:
    """A gate that has found two things wrong."""
    champion = read_registry(MlflowClient(), name).holder("Production")
    return GateResult(version, False, ("recall of glaucoma is 0.41", "answers are late"), f"evidence-of-{version}", champion)


def passes(name: str, version: str, labelled: Path | None, settings: GateSettings) -> GateResult:
    """Stands in for `gate.validate`."""
    return passed(name, version)


def refuses(name: str, version: str, labelled: Path | None, settings: GateSettings) -> GateResult:
    """Stands in for `gate.validate`."""
    return refused(name, version)


def passes_fetched(
    fetched: FetchedVersion, registry: RegistryState, labelled: Path | None, settings: GateSettings
) -> GateResult:
    """Stands in for `gate.validate_fetched`."""
    return GateResult(fetched.version, True, (), f"evidence-of-{fetched.version}", registry.holder("Production"))
