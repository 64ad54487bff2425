"""Every figure within a source beside the pooled one.

Sources differ in their cameras and in their mix of classes. Pooled over sources, a network that tells cameras apart looks like
one that tells diseases apart; within a source it does not.
"""

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from eye_disease.common.errors import UserError
from eye_disease.evaluation.auroc import Auroc
from eye_disease.evaluation.parts import Answers, Part
from model_code.decision import HEALTHY

POOLED = "all sources"
GRADED = "diabetic_retinopathy"
"""The disease that grades are of."""
REFERABLE = 2
"""The least grade at which a patient is referred."""
LEAST = 5
"""Patients of either side below which an AUROC says nothing."""


@dataclass(frozen=True)
class Separation:
    """How well a disease's probability tells its photos from healthy ones."""

    source: str
    """POOLED: of all sources together"""
    disease: str
    least_grade: int | None
    """Only photos of this grade or above count as ill; None: all of the disease"""
    auroc: Auroc

    @property
    def name(self) -> str:
        """For people."""
        return self.disease if self.least_grade is None else f"{self.disease}, grade {self.least_grade} and above"

    @property
    def metric(self) -> str:
        """For MLflow."""
        grade = "" if self.least_grade is None else f"_grade_{self.least_grade}"
        return f"auroc_{self.disease}{grade}" + ("" if self.source == POOLED else f"_source_{self.source}")


@dataclass(frozen=True)
class WithinSource:
    """Of labelled photos."""

    sources: dict[str, Part]
    """By source, and under POOLED"""
    separations: tuple[Separation, ...]
    """By disease, each pooled first; sources with fewer than LEAST patients on a side are left out"""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "sources": {name: part.as_dict() for name, part in self.sources.items()},
            "separations": [asdict(separation) for separation in self.separations],
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """From what `as_dict` gave. Raises UserError if it is something else."""
        try:
            sources = {name: Part.from_dict(part) for name, part in stored["sources"].items()}
            separations = (
                Separation(**separation | {"auroc": Auroc(**separation["auroc"])}) for separation in stored["separations"]
            )
            return cls(sources, tuple(separations))
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"These are not figures by source ({type(error).__name__}: {error}).") from error

    def metrics(self) -> dict[str, float]:
        """Flat names and values, for MLflow."""
        values = {separation.metric: separation.auroc.value for separation in self.separations}
        for source, part in self.sources.items():
            end = "" if source == POOLED else f"_source_{source}"
            values |= {f"macro_f1{end}": part.macro_f1, f"calibration_error{end}": part.calibration_error}
            shares = {"reported": part.reported, "error_among_reported": part.error_among_reported}
            values |= {f"{name}{end}": share.value for name, share in shares.items() if share is not None}
        return values


def within_source(answers: Answers) -> WithinSource:
    """Figures by source of photos with labels among the classes."""
    names = answers.column("source")
    parts = {str(name): Part.of(answers.of(names == name)) for name in np.unique(names)}
    return WithinSource({POOLED: Part.of(answers)} | parts, separations(answers))


def separations(answers: Answers) -> tuple[Separation, ...]:
    """Each disease against healthy, pooled and within each source that has both.

    Labels other than the classes may occur; a photo labelled `not_<disease>` is one without that disease.
    """
    return tuple(
        separation
        for disease in answers.classes
        if disease != HEALTHY
        for least_grade in ((None, REFERABLE) if disease == GRADED else (None,))
        for separation in _of_disease(answers, disease, least_grade)
    )


def _of_disease(answers: Answers, disease: str, least_grade: int | None) -> list[Separation]:
    labels, names = answers.column("label"), answers.column("source")
    ill = labels == disease
    if least_grade is not None:
        ill &= answers.rows["grade"].to_numpy(float) >= least_grade
    healthy = (labels == HEALTHY) | (labels == f"not_{disease}")
    scores, patients = answers.probabilities[:, answers.classes.index(disease)], answers.column("group")
    measured = []
    for source in (POOLED, *np.unique(names)):
        here = (names == source) | (source == POOLED)
        if min(len(np.unique(patients[side & here])) for side in (ill, healthy)) >= LEAST:
            chosen = (ill | healthy) & here
            auroc = Auroc.of(scores[chosen], ill[chosen], patients[chosen])
            measured.append(Separation(str(source), disease, least_grade, auroc))
    return measured
