"""Figures of a classifier on one part of the photos: a source, an age band, a sex."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from eye_disease.evaluation.shares import Share, calibration_error


@dataclass(frozen=True)
class Answers:
    """A classifier's answers to labelled photos, N of them."""

    classes: tuple[str, ...]
    probabilities: np.ndarray
    """float (N, C)"""
    rows: pd.DataFrame
    """The photos, with the columns of evaluation.manifest that are used: label, source, group, grade, age, sex."""
    reported: np.ndarray | None = None
    """bool (N,): whether the decision was `report`; None where decisions are not known."""

    @classmethod
    def of_rows(cls, classes: tuple[str, ...], answers: Sequence[Mapping[str, Any]], rows: pd.DataFrame) -> Self:
        """From answer rows (model_code.schema) without errors, in the order of the photos."""
        probabilities = np.array([[answer[f"prob_{name}"] for name in classes] for answer in answers], float)
        return cls(classes, probabilities, rows, np.array([answer["decision"] == "report" for answer in answers]))

    @property
    def answered(self) -> np.ndarray:
        """str (N,): the likeliest class."""
        return np.asarray(np.array(self.classes)[self.probabilities.argmax(axis=1)])

    @property
    def right(self) -> np.ndarray:
        """bool (N,)"""
        return np.asarray(self.answered == self.column("label"))

    def column(self, name: str) -> np.ndarray:
        """A column of the photos, str (N,)."""
        return self.rows[name].to_numpy(str)

    def of(self, chosen: np.ndarray) -> Self:
        """Those to some of the photos, bool (N,)."""
        reported = None if self.reported is None else self.reported[chosen]
        return type(self)(self.classes, self.probabilities[chosen], self.rows[chosen], reported)


@dataclass(frozen=True)
class Part:
    """Figures of a part; intervals count a patient's photos as alike."""

    accuracy: Share
    macro_f1: float
    """Mean over the classes that the part shows."""
    calibration_error: float
    recall: dict[str, Share]
    """By class; classes without photos are left out."""
    reported: Share | None
    """None where decisions are not known."""
    error_among_reported: Share | None
    """None where nothing is reported, too."""

    @classmethod
    def of(cls, answers: Answers) -> Self:
        """Of photos that all bear a label among the classes; at least one."""
        from sklearn.metrics import f1_score  # takes two seconds, which reading kept figures need not

        right, labels, patients = answers.right, answers.column("label"), answers.column("group")
        present, reported = [name for name in answers.classes if name in labels], answers.reported
        return cls(
            accuracy=Share.of(right, patients),
            macro_f1=float(f1_score(labels, answers.answered, labels=present, average="macro", zero_division=0)),
            calibration_error=calibration_error(answers.probabilities.max(axis=1), right),
            recall={name: Share.of(right[labels == name], patients[labels == name]) for name in present},
            reported=None if reported is None else Share.of(reported, patients),
            error_among_reported=(
                Share.of(~right[reported], patients[reported]) if reported is not None and reported.any() else None
            ),
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """From what `as_dict` gave. Raises KeyError, TypeError if it is something else."""
        shares = {name: stored[name] and Share(**stored[name]) for name in ("accuracy", "reported", "error_among_reported")}
        recall = {name: Share(**share) for name, share in stored["recall"].items()}
        return cls(macro_f1=stored["macro_f1"], calibration_error=stored["calibration_error"], recall=recall, **shares)
