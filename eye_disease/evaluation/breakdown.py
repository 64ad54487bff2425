"""Figures within each source and in each group of patients; kept in a package, shown in card and gate."""

from dataclasses import dataclass
from typing import Any, Self

from eye_disease.evaluation.figures import mlflow_names
from eye_disease.evaluation.groups import Groups, by_group
from eye_disease.evaluation.parts import Answers
from eye_disease.evaluation.within_source import WithinSource, within_source


@dataclass(frozen=True)
class Breakdown:
    """Of labelled photos."""

    within: WithinSource
    groups: Groups | None
    """None where neither age nor sex is known"""

    @classmethod
    def of(cls, answers: Answers) -> Self:
        """Of photos with labels among the classes."""
        return cls(within_source(answers), by_group(answers))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"within_source": self.within.as_dict(), "groups": self.groups and self.groups.as_dict()}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self | None:
        """From a dict with what `as_dict` gave among its keys; None where there is none of it. Raises UserError if damaged."""
        if "within_source" not in stored:
            return None
        groups = stored.get("groups")
        return cls(WithinSource.from_dict(stored["within_source"]), None if groups is None else Groups.from_dict(groups))

    def metrics(self) -> dict[str, float]:
        """Flat names and values, for MLflow."""
        return mlflow_names(self.within.metrics() | (self.groups.metrics() if self.groups else {}))
