"""What is promised of the answers whose decision is `report`; kept in `model.json`, fitted by training."""

from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Bounded:
    """A share of counted cases, and the bound that it keeps with the promise's certainty."""

    hits: int
    n: int
    bound: float

    @property
    def value(self) -> float:
        """The share as counted, 0..1; n > 0."""
        return self.hits / self.n


@dataclass(frozen=True)
class Promise:
    """Which answers are reported, and what holds of them with `certainty`, for photos drawn as the validation photos were.

    The two shares hold together; they rest on one photo a patient.
    """

    max_error: float
    """Promised: of reported answers at most this share is wrong, 0..1"""
    max_missed: float
    """Promised: of the eyes that must not be missed at most this share is reported as healthy, 0..1"""
    certainty: float
    threshold: float | None
    """Answers whose score is at least this may be reported; None: no threshold keeps the promise, and nothing is reported"""
    error: Bounded | None
    """Wrong among the reported; None where nothing is reported"""
    missed: Bounded | None
    """Reported as healthy among those that must not be missed; None where nothing is reported or there were none"""
    reported: float
    """Share of the validation photos that were reported"""
    patients: int
    """Photos that the bounds rest on, one a patient"""

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """From what `dataclasses.asdict` gave. Raises KeyError or TypeError if it is something else."""
        bounds = {name: None if stored[name] is None else Bounded(**stored[name]) for name in ("error", "missed")}
        return cls(**stored | bounds)
