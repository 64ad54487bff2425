"""What probabilities are worth on labelled photos: figures with their intervals."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score


@dataclass(frozen=True)
class Share:
    """Hits among n photos, with the 95 % Wilson interval."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, hits: np.ndarray) -> "Share":
        """The share of true values in bool (n,), n > 0."""
        found = binomtest(int(hits.sum()), len(hits))
        interval = found.proportion_ci(0.95, method="wilson")
        return cls(found.statistic, float(interval.low), float(interval.high), len(hits))


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
        """For JSON."""
        return asdict(self)

    def metrics(self) -> dict[str, float]:
        """Flat names and values, for MLflow."""
        shares = {"accuracy": self.accuracy} | {f"recall_{name}": share for name, share in self.recall.items()}
        shares |= {f"accuracy_source_{name}": share for name, share in self.accuracy_by_source.items()}
        whole = {name: getattr(self, name) for name in ("macro_f1", "macro_auroc", "calibration_error")}
        return {name: share.value for name, share in shares.items()} | {k: v for k, v in whole.items() if np.isfinite(v)}


def measure(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], sources: np.ndarray) -> Figures:
    """Figures of (N, C) probabilities for int (N,) labels and str (N,) sources, N > 0."""
    answers = probabilities.argmax(axis=1)
    correct = answers == labels
    present = np.unique(labels)
    return Figures(
        accuracy=Share.of(correct),
        macro_f1=float(f1_score(labels, answers, labels=present, average="macro", zero_division=0)),
        macro_auroc=macro_auroc(probabilities, labels),
        calibration_error=calibration_error(probabilities, labels),
        recall={classes[i]: Share.of(correct[labels == i]) for i in present},
        accuracy_by_source={str(name): Share.of(correct[sources == name]) for name in np.unique(sources)},
        confusion=confusion_matrix(labels, answers, labels=range(len(classes))).tolist(),
    )


def macro_auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean AUROC of one class against the rest; scores (N, C), labels int (N,). nan where a class has no photos."""
    if len(np.unique(labels)) < scores.shape[1]:
        return float("nan")
    return float(np.mean([roc_auc_score(labels == i, scores[:, i]) for i in range(scores.shape[1])]))


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> list[tuple[float, float, int]]:
    """(mean confidence, accuracy, photos) of each equal-width bin of confidence that has photos; (N, C) and int (N,)."""
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        (float(confidence[index == b].mean()), float(correct[index == b].mean()), int((index == b).sum()))
        for b in np.unique(index)
    ]


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error of (N, C) probabilities, over 15 bins of confidence (Naeini et al., AAAI 2015)."""
    return sum(abs(sure - right) * photos for sure, right, photos in reliability(probabilities, labels)) / len(labels)
