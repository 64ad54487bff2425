"""Fairness: figures by age band and by sex, and whether a group fares worse than the others by more than chance explains."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd

from eye_disease.common.errors import UserError
from eye_disease.evaluation.multiple import holm
from eye_disease.evaluation.parts import Answers, Part

AGE_BANDS = {"under 50": 50.0, "50 to 59": 60.0, "60 to 69": 70.0, "70 and over": np.inf}
"""Band -> the age in years from which on another band begins."""
LEAST = 20
"""Photos of a group below which a figure of it is shown, but not compared."""
_PERMUTATIONS = 4_000
_CHUNK = 200


@dataclass(frozen=True)
class Gap:
    """One group against all others that differ from it in age band, or in sex."""

    kind: str
    """`age` or `sex`"""
    group: str
    figure: str
    """`accuracy`, `error among reported` or `recall <class>`"""
    value: float
    """0..1, of the group"""
    others: float
    n: int
    """Photos of the group that the figure is of"""
    p_value: float
    """Of a gap this large or larger, either way, if age or sex were drawn by lot among the patients; for all gaps together"""

    @property
    def loss(self) -> float:
        """How much worse the group fares, -1..1."""
        return self.value - self.others if self.figure == "error among reported" else self.others - self.value

    def __str__(self) -> str:
        return (
            f"{self.figure}, {self.kind} {self.group}: {self.value:.3f} on {self.n} photos, the others {self.others:.3f} "
            f"(p = {self.p_value:.2g})"
        )


@dataclass(frozen=True)
class Groups:
    """Of labelled photos whose patients' age or sex is known."""

    parts: dict[str, dict[str, Part]]
    """`age`, `sex` -> group -> its figures; a kind that is not known is left out"""
    gaps: tuple[Gap, ...]
    """The largest loss first"""

    def unfair(self, alpha: float) -> tuple[Gap, ...]:
        """Losses that chance does not explain: with probability alpha at most any, where there is none."""
        return tuple(gap for gap in self.gaps if gap.loss > 0 and gap.p_value < alpha)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        parts = {kind: {name: part.as_dict() for name, part in named.items()} for kind, named in self.parts.items()}
        return {"parts": parts, "gaps": [asdict(gap) for gap in self.gaps]}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """From what `as_dict` gave. Raises UserError if it is something else."""
        try:
            parts = {
                kind: {name: Part.from_dict(part) for name, part in named.items()} for kind, named in stored["parts"].items()
            }
            return cls(parts, tuple(Gap(**gap) for gap in stored["gaps"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"These are not figures by group ({type(error).__name__}: {error}).") from error

    def metrics(self) -> dict[str, float]:
        """Flat names and values, for MLflow."""
        values: dict[str, float] = {}
        for kind, named in self.parts.items():
            for group, part in named.items():
                end = f"_{kind}_{group}".replace(" ", "_")
                values[f"accuracy{end}"] = part.accuracy.value
                if part.error_among_reported is not None:
                    values[f"error_among_reported{end}"] = part.error_among_reported.value
        return values


def by_group(answers: Answers) -> Groups | None:
    """Figures by age band and sex of photos with labels among the classes; None where neither is known of any."""
    kinds = {kind: group for kind, group in _groups_of(answers.rows).items() if (group != "").any()}
    if not kinds:
        return None
    parts = {kind: {str(name): Part.of(answers.of(group == name)) for name in _ordered(group)} for kind, group in kinds.items()}
    gaps = [gap for kind, group in kinds.items() for gap in _gaps(kind, group, answers)]
    together = [replace(gap, p_value=p) for gap, p in zip(gaps, holm([gap.p_value for gap in gaps]), strict=True)]
    return Groups(parts, tuple(sorted(together, key=lambda gap: -gap.loss)))


def _groups_of(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Kind -> group of each photo, str (N,); empty where it is not known."""
    ages = rows["age"].to_numpy(float)
    bands = np.array([*AGE_BANDS, ""])
    place = np.where(np.isnan(ages), len(AGE_BANDS), np.searchsorted([*AGE_BANDS.values()], ages, side="right"))
    return {"age": bands[place], "sex": rows["sex"].astype(object).fillna("").to_numpy(str)}


def _ordered(group: np.ndarray) -> list[str]:
    """Names of the groups that occur: bands by age, others by alphabet."""
    names = [str(name) for name in np.unique(group) if name]
    return [name for name in AGE_BANDS if name in names] or names


def _figures(answers: Answers) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, hits and which photos it is of, bool (N,) each."""
    right, labels = answers.right, answers.column("label")
    yield "accuracy", right, np.ones(len(right), bool)
    if answers.reported is not None:
        yield "error among reported", ~right, answers.reported
    yield from ((f"recall {name}", right, labels == name) for name in answers.classes)


def _gaps(kind: str, group: np.ndarray, answers: Answers) -> list[Gap]:
    """Each group against the others, with a p-value of its own."""
    patients = answers.column("group")
    gaps = []
    for figure, hits, of in _figures(answers):
        chosen = of & (group != "")
        names = [name for name in _ordered(group) if (chosen & (group == name)).sum() >= LEAST]
        if len(names) > 1:
            chosen &= np.isin(group, names)
            gaps += _compared(kind, figure, hits[chosen], group[chosen], patients[chosen], names)
    return gaps


def _compared(kind: str, figure: str, hits: np.ndarray, group: np.ndarray, patients: np.ndarray, names: list[str]) -> list[Gap]:
    """By permutation: the groups are dealt out anew among the patients, each of whom keeps the photos that are his."""
    # A patient who was photographed at two ages is as two.
    _, patient = np.unique(np.char.add(np.char.add(patients, "\n"), group), return_inverse=True)
    right, photos = np.bincount(patient, hits), np.bincount(patient)
    belongs = np.array([names.index(name) for name in group])[np.unique(patient, return_index=True)[1]]

    def differences(dealt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shares of the groups and of their others, (G, ...), of the patients' groups (..., P)."""
        inside = np.stack([dealt == place for place in range(len(names))]).astype(float)
        k, n = inside @ right, inside @ photos
        return k / n, (right.sum() - k) / (photos.sum() - n)

    value, others = differences(belongs)
    rng, beyond = np.random.default_rng(0), np.zeros(len(names))
    for _ in range(_PERMUTATIONS // _CHUNK):
        dealt = rng.permuted(np.tile(belongs, (_CHUNK, 1)), axis=1)
        ours, theirs = differences(dealt)
        beyond += (np.abs(ours - theirs) >= np.abs(value - others)[:, None] - 1e-12).sum(axis=1)
    p_values = (1 + beyond) / (1 + _PERMUTATIONS)
    gaps = [
        Gap(kind, name, figure, float(value[i]), float(others[i]), int((group == name).sum()), float(p_values[i]))
        for i, name in enumerate(names)
    ]
    return gaps if len(names) > 2 else [max(gaps, key=lambda gap: gap.loss)]  # of two, one's loss is the other's gain
