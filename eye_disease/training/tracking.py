"""A training run in MLflow: parameters, curves, figures, plots."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import mlflow
import numpy as np
from mlflow import MlflowClient

from eye_disease.common.mlflow_client import experiment_id, experiment_name
from eye_disease.evaluation.breakdown import Breakdown
from eye_disease.evaluation.manifest import FEEDBACK
from eye_disease.evaluation.plots import (
    contact_sheet,
    plot_confusion,
    plot_curves,
    plot_reliability,
    plot_roc,
    plot_separations,
)
from eye_disease.training.loop import Epoch
from eye_disease.training.package import Finished
from eye_disease.training.photos import Photos
from model_code.setting_fields import read_bool

RUN_ID = "mlflow_run_id"
"""In the work folder: the run that a resumed training goes on with."""
WORST = 24


@contextmanager
def tracked(work: Path, parameters: dict[str, object]) -> Iterator[bool]:
    """An MLflow run around a training; yields whether anything is tracked (ENABLE_MLFLOW_TRACKING).

    Within `mlflow run` it is that command's run; a resumed training goes on with its own.
    """
    if not read_bool(os.environ, "ENABLE_MLFLOW_TRACKING", True):
        yield False
        return
    if "MLFLOW_RUN_ID" not in os.environ:
        mlflow.set_experiment(experiment_id=experiment_id(MlflowClient(), experiment_name()))
    stored = work / RUN_ID
    with mlflow.start_run(run_id=stored.read_text() if stored.is_file() else None, run_name="training") as run:
        stored.write_text(run.info.run_id)
        # The prefix keeps apart what `mlflow run` logs of its own accord under the entry point's names.
        mlflow.log_params({f"train.{name}": value for name, value in parameters.items()})
        yield True


def log_epoch(epoch: Epoch) -> None:
    """The curves' next points."""
    values = {name: value for name, value in asdict(epoch).items() if name != "epoch" and np.isfinite(value)}
    mlflow.log_metrics(values, step=epoch.epoch + 1)


def log_result(finished: Finished, history: list[Epoch], photos: Photos, work: Path) -> None:
    """Validation figures, and plots: confusion, reliability, ROC, curves, sources, the worst mistakes (no patients' photos)."""
    breakdown = Breakdown.from_dict(finished.facts.provenance)
    figures = finished.figures.metrics() | (breakdown.metrics() if breakdown else {})
    mlflow.log_metrics({f"validation_{name}": value for name, value in figures.items()})
    plots = work / "plots"
    plots.mkdir(exist_ok=True)
    draw(finished, history, photos, plots)
    mlflow.log_artifacts(str(plots), "training")
    for report in work.glob("*.csv"):
        mlflow.log_artifact(str(report), "training")
    rows = [{"source": name, **asdict(share)} for name, share in finished.figures.accuracy_by_source.items()]
    mlflow.log_table({key: [row[key] for row in rows] for key in rows[0]}, "training/accuracy_by_source.json")


def draw(finished: Finished, history: list[Epoch], photos: Photos, folder: Path) -> None:
    """The plots of `log_result`, as PNG files."""
    validation, classes = photos.of("val"), photos.classes
    plot_confusion(finished.figures, classes, folder / "confusion.png")
    plot_reliability(finished.probabilities, validation.labels, folder / "reliability.png")
    plot_roc(finished.probabilities, validation.labels, classes, folder / "roc.png")
    if breakdown := Breakdown.from_dict(finished.facts.provenance):
        plot_separations(breakdown.within, folder / "within_source.png")
    if history:
        losses = {name: [getattr(epoch, name) for epoch in history] for name in ("training_loss", "validation_loss")}
        plot_curves(losses, folder / "losses.png")
        reached = ("accuracy", "macro_f1", "macro_auroc")
        plot_curves({name: [getattr(epoch, name) for epoch in history] for name in reached}, folder / "validation.png")
    answers = finished.probabilities.argmax(axis=1)
    confidence = finished.probabilities.max(axis=1)
    wrong = np.flatnonzero((answers != validation.labels) & (validation.sources != FEEDBACK))
    worst = wrong[np.argsort(-confidence[wrong])][:WORST]
    captions = [f"{classes[answers[i]]} {confidence[i]:.2f}\nlabel {classes[validation.labels[i]]}" for i in worst]
    contact_sheet(validation.views[worst], captions, folder / "worst_mistakes.png")
