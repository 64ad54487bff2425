"""Accuracy, recall and calibration on labelled photos, with intervals."""

import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np

from eye_disease.common.errors import UserError
from eye_disease.evaluation.shares import Share, calibration_error


@dataclass(frozen=True)
class Figures:
    """How a classifier does on labelled photos."""

    accuracy: Share
    macro_f1: float
    macro_auroc: float
    """Mean of one class against the rest; nan where a class has no photos."""
    calibration_error: float
    recall: dict[str, Share]
    """By class; classes without photos are left out."""
    accuracy_by_source: dict[str, Share]
    confusion: list[list[int]]
    """Rows: the label. Columns: the answer."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no nan."""
        return asdict(self) | {"macro_auroc": self.macro_auroc if np.isfinite(self.macro_auroc) else None}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """From what `as_dict` gave, other keys aside. Raises UserError if it is something else."""
        try:
            values = {field.name: stored[field.name] for field in fields(cls)}
            for name in ("recall", "accuracy_by_source"):
                values[name] = {key: Share(**share) for key, share in values[name].items()}
            auroc = float("nan") if values["macro_auroc"] is None else values["macro_auroc"]
            return cls(**values | {"accuracy": Share(**values["accuracy"]), "macro_auroc": auroc})
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"These are not the figures of a classifier ({type(error).__name__}: {error}).") from error

    def metrics(self) -> dict[str, float]:
        """Flat names and values, for MLflow."""
        shares = {"accuracy": self.accuracy} | {f"recall_{name}": share for name, share in self.recall.items()}
        shares |= {f"accuracy_source_{name}": share for name, share in self.accuracy_by_source.items()}
        whole = {name: getattr(self, name) for name in ("macro_f1", "macro_auroc", "calibration_error")}
        values = {name: share.value for name, share in shares.items()} | {k: v for k, v in whole.items() if np.isfinite(v)}
        return mlflow_names(values)


def mlflow_names(values: dict[str, float]) -> dict[str, float]:
    """With names that MLflow takes: what it does not take in a name becomes an underscore."""
    return {re.sub(r"[^\w.\- :/]", "_", name): value for name, value in values.items()}


def measure(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], sources: np.ndarray) -> Figures:
    """Figures of (N, C) probabilities for int (N,) labels and str (N,) sources, N > 0."""
    from sklearn.metrics import confusion_matrix, f1_score  # takes two seconds, which reading kept figures need not

    answers = probabilities.argmax(axis=1)
    correct = answers == labels
    present = np.unique(labels)
    return Figures(
        accuracy=Share.of(correct),
        macro_f1=float(f1_score(labels, answers, labels=present, average="macro", zero_division=0)),
        macro_auroc=macro_auroc(probabilities, labels),
        calibration_error=calibration_error(probabilities.max(axis=1), correct),
        recall={classes[i]: Share.of(correct[labels == i]) for i in present},
        accuracy_by_source={str(name): Share.of(correct[sources == name]) for name in np.unique(sources)},
        confusion=confusion_matrix(labels, answers, labels=range(len(classes))).tolist(),
    )


def macro_auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean AUROC of one class against the rest; scores (N, C), labels int (N,). nan where a class has no photos."""
    from sklearn.metrics import roc_auc_score

    if len(np.unique(labels)) < scores.shape[1]:
        return float("nan")
    return float(np.mean([roc_auc_score(labels == i, scores[:, i]) for i in range(scores.shape[1])]))
