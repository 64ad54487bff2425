"""A version judged on labelled photos, by itself and against the one in Production; or by the figures in its package."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from eye_disease.evaluation.breakdown import Breakdown
from eye_disease.evaluation.figures import Figures, measure
from eye_disease.evaluation.manifest import DataError
from eye_disease.evaluation.parts import Answers as LabelledAnswers
from eye_disease.registry.gate.checks import GateCheck, JudgedAnswers, absolute, fairness, paired
from eye_disease.registry.gate.labelled_photos import LabelledPhotos
from eye_disease.registry.gate.settings import GateSettings
from eye_disease.registry.versions import FetchedVersion
from model_code.package import ModelFacts

MAX_UNREADABLE_SHARE = 0.05
"""Of the labelled photos; with more of them the set is not what it should be."""
_SHA256_SHOWN = 16

Answers = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class GateJudgement:
    """Checks, and what they rest on."""

    basis: str
    """A sentence: which photos, how many."""
    checks: list[GateCheck]
    candidate: JudgedAnswers | None = None
    """None without labelled photos."""
    production: JudgedAnswers | None = None
    labels: np.ndarray = field(default_factory=lambda: np.array([], int))
    """int (N,), of the photos that are compared."""
    changed: pd.DataFrame | None = None
    """Photos whose predicted class differs from Production's, each by the start of its SHA-256."""


def judge_by_photos(
    photos: LabelledPhotos, classes: tuple[str, ...], answers: Answers, production: Answers | None, settings: GateSettings
) -> GateJudgement:
    """Judge answers to `photos`, in their order; production: those of the version in Production, if it is compared.

    A photo that a version fails on, where the other does not, counts against it; photos that neither can read are counted.
    Raises DataError for labels that are not among `classes`, and where no photo can be read.
    """
    codes = photos.codes(classes)
    readable = _readable(answers)
    readable_before = readable if production is None else _readable(production)
    both = readable & readable_before
    if not both.any():
        raise DataError(f"None of the {len(both)} labelled photos can be read. Expected JPEG, PNG, BMP, TIFF or WebP files.")
    labels, rows = codes[both], photos.rows[both].reset_index(drop=True)
    candidate = _judged(answers, classes, both, labels, rows)
    checks = [*_reading_checks(answers, readable, readable_before), *absolute(candidate.figures, classes, settings)]
    checks += fairness(candidate.breakdown.groups, settings)
    basis = f"{int(both.sum())} labelled photos (set {photos.digest[:_SHA256_SHOWN]})"
    if photos.twice or photos.contradictory:
        basis += f"; {photos.twice} copies and {photos.contradictory} photos with two labels left out"
    basis += "".join(f"; not taken: {count} {reason}" for reason, count in sorted(photos.left_out.items()))
    if production is None:
        return GateJudgement(basis, checks, candidate, None, labels)
    before = _judged(production, classes, both, labels, rows)
    changed = _changed(rows, before, candidate, classes)
    return GateJudgement(basis, checks + paired(before, candidate, settings), candidate, before, labels, changed)


def judge_by_package(facts: ModelFacts, settings: GateSettings) -> GateJudgement:
    """Judge by the validation figures that the package keeps. Raises ValueError where they are not figures."""
    stored = facts.provenance.get("validation")
    if stored is None:
        problem = (
            "the package keeps no validation figures, and no labelled photos were given: name some with --data or GATE_DATA"
        )
        return GateJudgement("nothing", [GateCheck.fact("figures", "none", "labelled photos", problem)])
    figures = Figures.from_dict(stored)
    basis = f"the figures kept in the package ({figures.accuracy.n} validation photos), since no labelled photos were given"
    breakdown = Breakdown.from_dict(facts.provenance)
    checks = absolute(figures, facts.classes, settings)
    return GateJudgement(basis, checks + fairness(breakdown.groups, settings) if breakdown else checks)


def comparable(candidate: FetchedVersion, production: FetchedVersion | None, labelled: bool) -> GateCheck:
    """Can the version be compared with the one in Production, or need it not be?"""
    name, limit = "comparison with Production", "the same classes, and labelled photos"
    if production is None:
        return GateCheck.fact(name, "nothing in Production", limit)
    if candidate.behaviour_sha256 == production.behaviour_sha256:
        return GateCheck.fact(name, f"the same package and code as version {production.version}", limit)
    ours, theirs = candidate.facts.classes, production.facts.classes
    if set(ours) != set(theirs):
        problem = f"version {production.version} has the classes {list(theirs)}, this one {list(ours)}"
        return GateCheck.fact(name, "other classes", limit, f"{problem}. A model of other classes belongs under another name")
    if not labelled:
        problem = f"version {production.version} is in Production and no labelled photos were given to compare with it"
        return GateCheck.fact(name, "not compared", limit, f"{problem}: name some with --data or GATE_DATA")
    return GateCheck.fact(name, f"with version {production.version}, on the same photos", limit)


def _readable(answers: Answers) -> np.ndarray:
    return np.array([not answer["error_code"] for answer in answers])


def _reading_checks(answers: Answers, readable: np.ndarray, readable_before: np.ndarray) -> list[GateCheck]:
    codes = np.array([answer["error_code"] or "" for answer in answers])
    failed = (codes == "internal_error") | (~readable & readable_before)
    unreadable = ~readable & ~failed
    kinds = ", ".join(f"{code} {n}" for code, n in sorted(Counter(codes[unreadable].tolist()).items()))
    share = float(unreadable.mean())
    unreadable_of_all = f"{unreadable.sum()} of {len(codes)} photos" + (f" ({kinds})" if kinds else "")
    problem = f"{unreadable_of_all} cannot be read: correct the set" if share > MAX_UNREADABLE_SHARE else ""
    return [
        GateCheck.at_most("photos that it fails on", int(failed.sum()), 0, "no setting", len(codes)),
        GateCheck.fact("unreadable photos", unreadable_of_all, f"at most {MAX_UNREADABLE_SHARE:.0%}", problem),
    ]


def _judged(
    answers: Answers, classes: tuple[str, ...], chosen: np.ndarray, labels: np.ndarray, rows: pd.DataFrame
) -> JudgedAnswers:
    """chosen: bool, of the answers; labels int (N,) and rows: of the photos chosen."""
    compared = [answer for answer, keep in zip(answers, chosen, strict=True) if keep]
    labelled = LabelledAnswers.of_rows(classes, compared, rows)
    probabilities = labelled.probabilities
    figures = measure(probabilities, labels, classes, labelled.column("source"))
    return JudgedAnswers(probabilities, probabilities.argmax(axis=1) == labels, figures, Breakdown.of(labelled))


def _changed(rows: pd.DataFrame, before: JudgedAnswers, now: JudgedAnswers, classes: tuple[str, ...]) -> pd.DataFrame:
    names = np.array(classes)
    table = pd.DataFrame(
        {
            "photo": rows["sha256"].str[:_SHA256_SHOWN],
            "label": rows["label"],
            "source": rows["source"],
            "production": names[before.probabilities.argmax(axis=1)],
            "production_confidence": before.probabilities.max(axis=1).round(4),
            "candidate": names[now.probabilities.argmax(axis=1)],
            "candidate_confidence": now.probabilities.max(axis=1).round(4),
            "change": np.select([before.right & ~now.right, now.right & ~before.right], ["lost", "won"], "wrong both times"),
        }
    )
    return table[table["production"] != table["candidate"]].reset_index(drop=True)
