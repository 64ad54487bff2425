"""How a network in training does on the validation photos."""

import itertools
from collections.abc import Callable

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.metrics import f1_score, roc_auc_score

from eye_disease.evaluation.figures import macro_auroc
from eye_disease.training.dataset import scale_batch
from eye_disease.training.photos import Photos
from eye_disease.training.targets import OTHER

BATCH = 32
MIN_PHOTOS = 5
"""Of each of two classes in a source; with fewer an AUROC says nothing."""


class Validation:
    """The validation photos, and the figures of a network's outputs for them."""

    def __init__(self, photos: Photos) -> None:
        """photos: those of the split `val`."""
        self.classes = photos.classes
        self._recipe = photos.recipe
        outside = photos.more[photos.more["label"] == OTHER]
        self.has_other = len(outside) > 0
        self._labels, self._sources = photos.labels, photos.sources
        self._other_sources = outside["source"].to_numpy(str)
        self._views = np.concatenate([photos.views, photos.views_of(outside)]) if self.has_other else photos.views

    def outputs(self, network: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """What a network says of the photos, scaled float32 (B, S, S, 3) -> (B, K) at a time; those of one class come first."""
        batches = (self._views[start : start + BATCH] for start in range(0, len(self._views), BATCH))
        return np.concatenate([network(scale_batch(views, self._recipe)) for views in batches])

    def figures(self, outputs: np.ndarray) -> dict[str, float]:
        """By the names in training.loop.Epoch; outputs (N, C and more): logits, then the other finding's logit."""
        labels, count = self._labels, len(self.classes)
        logits = outputs[: len(labels), :count]
        log_probabilities, answers = log_softmax(logits, axis=1), logits.argmax(axis=1)
        return {
            "validation_loss": -float(log_probabilities[np.arange(len(labels)), labels].mean()),
            "accuracy": float((answers == labels).mean()),
            "macro_f1": float(f1_score(labels, answers, average="macro", zero_division=0)),
            "macro_auroc": macro_auroc(softmax(logits, axis=1), labels),
            "within_source": within_sources(logits, labels, self._sources),
            "other_auroc": self._other_auroc(outputs[:, count]) if self.has_other else float("nan"),
        }

    def _other_auroc(self, scores: np.ndarray) -> float:
        beside = scores[: len(self._labels)][np.isin(self._sources, self._other_sources)]
        other = scores[len(self._labels) :]
        return float(roc_auc_score(np.r_[np.zeros(len(beside)), np.ones(len(other))], np.r_[beside, other]))


def within_sources(scores: np.ndarray, labels: np.ndarray, sources: np.ndarray) -> float:
    """Mean over the sources of the mean AUROC of two of their classes, by the difference of their scores.

    scores: logits, (N, C); labels: int (N,); sources: str (N,). nan where no source has two classes. A camera cannot tell
    classes apart here, as it can in a figure over all sources.
    """
    means = []
    for source in np.unique(sources):
        inside = sources == source
        enough = np.flatnonzero(np.bincount(labels[inside]) >= MIN_PHOTOS)
        pairs = [
            roc_auc_score(labels[chosen] == first, scores[chosen, first] - scores[chosen, second])
            for first, second in itertools.combinations(enough, 2)
            if (chosen := inside & np.isin(labels, (first, second))).any()
        ]
        if pairs:
            means.append(np.mean(pairs))
    return float(np.mean(means)) if means else float("nan")
