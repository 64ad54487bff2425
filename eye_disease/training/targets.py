"""What is known of a photo as the training loss takes it: a class or several possible ones, another finding, a grade.

One row of numbers a photo, so that photos can be mixed and Keras can hand them on. Of C classes the columns are
  0 .. C         the class as a distribution; for a partial label, equal shares of the classes that are possible
  C .. 2 C       what the source alone says of the classes: a difference of logarithms (see `source_priors`)
  2 C .. + 4     1 where the label is partial; 1 where the class counts; the other finding (0, 1); 1 where that counts
  then           GRADE_STEPS times "the grade is at least k"; 1 where the grade counts
"""

import keras
import numpy as np
import pandas as pd

from eye_disease.evaluation.manifest import DataError, some

OTHER, SEVERAL, UNSURE, NOT = "other", "several", "unsure", "not_"
"""Labels of photos that are not of exactly one class: a disease outside the classes; several of them, named in `finding`
with | between them; not known; `not_` and a class."""
GRADE_STEPS = 4
"""Grades 1 to 4 of diabetic retinopathy."""
OTHER_WEIGHT, GRADE_WEIGHT = 0.5, 0.3
"""Of their losses, against the class's."""
OWN_PRIOR = 0.7
"""How far a source's prior is its own; the rest is an equal share for each class."""


def possible_classes(rows: pd.DataFrame, classes: tuple[str, ...]) -> np.ndarray:
    """bool (N, C): the classes that each photo may be of; none where the label says nothing of them.

    Raises DataError for a label that is no class and none of those above.
    """
    findings = rows["finding"].fillna("").astype(str) if "finding" in rows else pd.Series("", rows.index)
    named: dict[tuple[str, str], list[bool]] = {}
    unknown = []
    for label, finding in sorted(set(zip(rows["label"], findings, strict=True))):
        parts = finding.split("|") if label == SEVERAL else [label]
        if label in (OTHER, UNSURE):
            named[label, finding] = [False] * len(classes)
        elif label.startswith(NOT) and label[len(NOT) :] in classes:
            named[label, finding] = [name != label[len(NOT) :] for name in classes]
        elif set(parts) <= set(classes):
            named[label, finding] = [name in parts for name in classes]
        else:
            unknown.append(f"{label} ({finding})" if label == SEVERAL else label)
    if unknown:
        raise DataError(
            f"The labels {some(unknown)} are not known. Expected one of {', '.join(classes)}; {OTHER}; {UNSURE}; "
            f"{NOT} and a class; or {SEVERAL} with two or more of the classes in the column finding, | between them."
        )
    pairs = zip(rows["label"], findings, strict=True)
    return np.array([named[pair] for pair in pairs], bool).reshape(len(rows), len(classes))


def encode(rows: pd.DataFrame, classes: tuple[str, ...], shown: np.ndarray) -> np.ndarray:
    """float32 (N, columns above); shown: how often each photo is shown in an epoch, on average, float (N,)."""
    possible = possible_classes(rows, classes)
    counts = possible.sum(axis=1)
    distribution = possible / np.maximum(counts, 1)[:, None]
    sources = rows["source"].to_numpy(str)
    outside = (rows["label"] == OTHER).to_numpy()
    # Where a source has no photo of another disease, its photos may show one all the same: only the class was looked for.
    looked_for = np.isin(sources, sources[outside]) & (outside | (counts == 1))
    grades = rows["grade"].to_numpy(float) if "grade" in rows else np.full(len(rows), np.nan)
    steps = grades[:, None] >= np.arange(1, GRADE_STEPS + 1)
    flags = np.stack([counts > 1, counts > 0, outside, looked_for], axis=1)
    priors = source_priors(distribution * shown[:, None], distribution, sources)
    return np.concatenate([distribution, priors, flags, steps, ~np.isnan(grades)[:, None]], axis=1).astype(np.float32)


def source_priors(shown: np.ndarray, distribution: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Logarithm of each class's share in the photo's source, as shown, less that of its share in all, float (N, C).

    Added to the logits in training only, it takes from the network what the camera alone would tell, since that is known
    already: logit adjustment (Menon et al., ICLR 2021), source by source. shown, distribution: float (N, C), sources: str (N,).
    """
    classes = shown.shape[1]
    whole = np.maximum(distribution.sum(axis=0), 1)
    priors = np.zeros_like(shown)
    for source in np.unique(sources):
        inside = sources == source
        mass = shown[inside].sum(axis=0)
        share = OWN_PRIOR * mass / max(mass.sum(), 1e-9) + (1 - OWN_PRIOR) / classes
        priors[inside] = np.log(share) - np.log(whole / whole.sum())
    return priors


@keras.saving.register_keras_serializable("eye_disease")
class TargetLoss(keras.losses.Loss):
    """Mean loss of outputs (B, C + 1 + GRADE_STEPS), logits, against encoded rows.

    A class: cross-entropy with smoothed labels. Several possible ones: -log of the sum of their probabilities. The other
    finding and each step of the grade: binary cross-entropy.
    """

    def __init__(self, classes: int, label_smoothing: float, name: str = "target_loss", **kwargs: object) -> None:
        super().__init__(name=name, **kwargs)
        self._classes, self._smoothing = classes, label_smoothing

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Loss of each photo, (B,)."""
        ops, c = keras.ops, self._classes
        target, prior, flags, steps = y_true[:, :c], y_true[:, c : 2 * c], y_true[:, 2 * c : 2 * c + 4], y_true[:, 2 * c + 4 :]
        partial, counts, outside, looked_for = (flags[:, i] for i in range(4))
        log_probabilities = ops.log_softmax(y_pred[:, :c] + prior, axis=1)
        smoothed = target * (1 - self._smoothing) + self._smoothing / c
        whole = -ops.sum(smoothed * log_probabilities, axis=1)
        some = -ops.logsumexp(ops.where(target > 0, log_probabilities, -30.0), axis=1)
        of_other = _binary(outside, y_pred[:, c]) * looked_for
        of_grade = ops.mean(_binary(steps[:, :-1], y_pred[:, c + 1 :]), axis=1) * steps[:, -1]
        return counts * (partial * some + (1 - partial) * whole) + OTHER_WEIGHT * of_other + GRADE_WEIGHT * of_grade

    def get_config(self) -> dict[str, object]:
        """For the saved state of a training."""
        return {**super().get_config(), "classes": self._classes, "label_smoothing": self._smoothing}


def _binary(target: keras.KerasTensor, logit: keras.KerasTensor) -> keras.KerasTensor:
    return keras.ops.softplus(logit) - target * logit
