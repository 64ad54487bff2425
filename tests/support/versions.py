"""Registered versions of a few bytes, for tests of what happens to versions rather than in them."""

from pathlib import Path

from mlflow import MlflowClient

from eye_disease.registry.gate.gate import GateResult
from eye_disease.registry.gate.settings import GateSettings
from eye_disease.registry.versions import look


def make_versions(client: MlflowClient, name: str, count: int) -> None:
    """Register a model with `count` versions in no stage, each with files of its own."""
    client.create_registered_model(name)
    experiment = client.create_experiment(f"{name}-files")
    for _ in range(count):
        run = client.create_run(experiment)
        client.log_text(run.info.run_id, f"files of run {run.info.run_id}", "model/MLmodel")
        client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)


def passes(name: str, version: str, labelled: Path | None, settings: GateSettings) -> GateResult:
    """A gate that finds nothing wrong."""
    return GateResult(True, (), f"evidence-of-{version}", look(MlflowClient(), name).holder("Production"))


def refuses(name: str, version: str, labelled: Path | None, settings: GateSettings) -> GateResult:
    """A gate that finds two things wrong."""
    champion = look(MlflowClient(), name).holder("Production")
    return GateResult(False, ("recall of glaucoma is 0.41", "answers are late"), f"evidence-of-{version}", champion)
