"""The evidence of a validation: one MLflow run with every check, figures, plots and changed answers."""

import json
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric

from eye_disease.common.mlflow_client import experiment_id, experiment_name
from eye_disease.registry.gate.checks import GateCheck, JudgedAnswers
from eye_disease.registry.gate.judge import GateJudgement
from eye_disease.registry.gate.settings import GateSettings

MAX_TAG = 4_000
"""Characters of a tag; MLflow's stores take 5,000 to 8,000."""


@contextmanager
def evidence_run(name: str, version: str, tags: Mapping[str, str]) -> Iterator[str]:
    """A new run of the project's experiment; yields its id. It ends FAILED where the block raises."""
    client = MlflowClient()
    # `mlflow run` has chosen the experiment already.
    experiment = os.environ.get("MLFLOW_EXPERIMENT_ID") or experiment_id(client, experiment_name())
    all_tags = {"gate.model": name, "gate.version": version, **tags}
    run_id = client.create_run(experiment, tags=all_tags, run_name=f"gate {name} {version}").info.run_id
    status = "FAILED"
    try:
        yield run_id
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)


def log_evidence(
    run_id: str, judgement: GateJudgement, checks: list[GateCheck], classes: tuple[str, ...], settings: GateSettings
) -> None:
    """Write all of it into the run."""
    client = MlflowClient()
    passed = all(check.passed for check in checks)
    client.set_tag(run_id, "gate", "passed" if passed else "refused")
    client.set_tag(run_id, "gate.basis", judgement.basis)
    client.log_batch(run_id, metrics=_metrics(judgement))
    _log_table(run_id, pd.DataFrame([asdict(check) for check in checks]), "gate/checks.json")
    if judgement.changed is not None:
        _log_table(run_id, judgement.changed, "gate/changed_predictions.json")
    client.log_text(run_id, json.dumps(_summary(judgement, checks, settings), indent=2) + "\n", "gate/gate.json")
    with tempfile.TemporaryDirectory() as folder:
        for role, judged in _roles(judgement).items():
            _plot(judged, judgement, classes, Path(folder) / role)
        client.log_artifacts(run_id, folder, "gate")


def _log_table(run_id: str, table: pd.DataFrame, path: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="For backward compatibility, 'str' dtypes")  # how MLflow asks pandas
        MlflowClient().log_table(run_id, table, path)


def _metrics(judgement: GateJudgement) -> list[Metric]:
    now = int(time.time() * 1000)
    values = {
        f"{role}_{key}": value
        for role, judged in _roles(judgement).items()
        for key, value in (judged.figures.metrics() | judged.breakdown.metrics()).items()
    }
    return [Metric(key, value, now, 0) for key, value in values.items()]


def _summary(judgement: GateJudgement, checks: list[GateCheck], settings: GateSettings) -> dict[str, Any]:
    limits = {key: value for key, value in asdict(settings).items() if not isinstance(value, Path)}
    figures = {role: judged.figures.as_dict() | judged.breakdown.as_dict() for role, judged in _roles(judgement).items()}
    return {
        "basis": judgement.basis,
        "checks": [asdict(check) for check in checks],
        "figures": figures,
        "settings": limits,
    }


def _roles(judgement: GateJudgement) -> dict[str, JudgedAnswers]:
    both = {"candidate": judgement.candidate, "production": judgement.production}
    return {role: judged for role, judged in both.items() if judged is not None}


def _plot(judged: JudgedAnswers, judgement: GateJudgement, classes: tuple[str, ...], folder: Path) -> None:
    from eye_disease.evaluation.plots import (  # imports matplotlib, which takes a second
        plot_confusion,
        plot_reliability,
        plot_roc,
        plot_separations,
    )

    folder.mkdir()
    plot_confusion(judged.figures, classes, folder / "confusion.png")
    plot_reliability(judged.probabilities, judgement.labels, folder / "reliability.png")
    plot_roc(judged.probabilities, judgement.labels, classes, folder / "roc.png")
    plot_separations(judged.breakdown.within, folder / "within_source.png")
