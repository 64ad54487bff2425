"""Shortcuts that tell a class without the eye: small classifiers that see one group of features and nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.stats import norm

FOLDS = 5
LARGEST = 4000
"""Photos of a class and of the rest that a probe looks at, at most: more change its AUROC by less than a hundredth."""
TELLS = 0.70
"""AUROC, with its whole interval, from which a group of features is said to tell a class. Disease itself changes the colours
a little, and large sets make every small difference significant."""
_TREES = 120


@dataclass(frozen=True)
class Probe:
    """How well a group of features tells one class from all others."""

    label: str
    features: str
    """A key of look.FEATURES."""
    auroc: float
    """Of photos in folds that the probe has not seen; 0.5 is chance."""
    low: float
    high: float
    """95 % interval (Hanley & McNeil, Radiology 143(1), 1982)."""
    chance_high: float
    """What a probe that knows nothing stays below in 97.5 % of sets of this size."""

    @property
    def tells(self) -> bool:
        """Whether the class can be told without looking at the eye."""
        return self.low > max(TELLS, self.chance_high)


def probe_classes(features: dict[str, np.ndarray], labels: np.ndarray, groups: np.ndarray, seed: int = 0) -> Iterator[Probe]:
    """Probes of each class and group of features: float (N, K) each, labels str (N,), groups (patients) (N,).

    Folds keep groups whole. Classes that fewer than FOLDS groups have, or lack, are left out.
    """
    for label, name in product(sorted(set(labels)), features):
        positive = labels == label
        if min(len(set(groups[positive])), len(set(groups[~positive]))) < FOLDS:
            continue
        chosen = _at_most(positive, np.random.default_rng(seed))
        scores = _scores(features[name][chosen], positive[chosen], groups[chosen], seed)
        yield measured(label, name, scores, positive[chosen])


def measured(label: str, features: str, scores: np.ndarray, positive: np.ndarray) -> Probe:
    """The probe whose held-out scores are float (N,) for bool (N,)."""
    from sklearn.metrics import roc_auc_score

    auroc, yes, no = float(roc_auc_score(positive, scores)), int(positive.sum()), int((~positive).sum())
    spread = norm.ppf(0.975) * _deviation(auroc, yes, no)
    chance = 0.5 + norm.ppf(0.975) * np.sqrt((yes + no + 1) / (12 * yes * no))
    return Probe(label, features, auroc, max(0.0, auroc - spread), min(1.0, auroc + spread), float(chance))


def _scores(features: np.ndarray, positive: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    forest = ExtraTreesClassifier(_TREES, min_samples_leaf=3, class_weight="balanced", random_state=seed, n_jobs=-1)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(features, positive, groups)
    return np.asarray(cross_val_predict(forest, features, positive, cv=folds, method="predict_proba")[:, 1])


def _at_most(positive: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int (M,): positions of at most LARGEST photos of the class and LARGEST of the rest."""
    sides = (np.flatnonzero(positive), np.flatnonzero(~positive))
    return np.sort(np.concatenate([rng.permutation(side)[:LARGEST] for side in sides]))


def _deviation(auroc: float, yes: int, no: int) -> float:
    first, second = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = auroc * (1 - auroc) + (yes - 1) * (first - auroc**2) + (no - 1) * (second - auroc**2)
    return float(np.sqrt(max(variance, 0.0) / (yes * no)))
