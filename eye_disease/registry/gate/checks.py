"""The gate's checks: what is asked, what was found, and a sentence on what to do. Knows nothing of MLflow."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from eye_disease.common.text import one_line
from eye_disease.evaluation.breakdown import Breakdown
from eye_disease.evaluation.figures import Figures
from eye_disease.evaluation.groups import Groups
from eye_disease.evaluation.paired import Paired
from eye_disease.registry.gate.settings import GateSettings
from model_code.schema import DECISIONS, answer_types

_ROUNDING = 1e-9
"""Differences of shares are not exact in binary; a loss of exactly the limit passes."""


@dataclass(frozen=True)
class GateCheck:
    """One thing that was looked at."""

    name: str
    value: str
    limit: str
    passed: bool
    reason: str = ""
    """Why it refuses the version; empty if it passed."""
    warning: str = ""
    """What a person should know although it passed."""

    @property
    def verdict(self) -> str:
        """`ok`, `WARNING` or `REFUSED`."""
        return "REFUSED" if not self.passed else "WARNING" if self.warning else "ok"

    @classmethod
    def at_least(cls, name: str, value: float, limit: float, setting: str, n: int | None = None) -> Self:
        """Passed by a value of `limit` or more; nan does not pass."""
        return cls._number(name, value, limit, value >= limit - _ROUNDING, "at least", setting, n)

    @classmethod
    def at_most(cls, name: str, value: float, limit: float, setting: str, n: int | None = None) -> Self:
        """Passed by a value of `limit` or less; nan does not pass."""
        return cls._number(name, value, limit, value <= limit + _ROUNDING, "at most", setting, n)

    @classmethod
    def _number(cls, name: str, value: float, limit: float, passed: bool, bound: str, setting: str, n: int | None) -> Self:
        shown, of = str(value) if isinstance(value, int) else f"{value:.4g}", "" if n is None else f" on {n} photos"
        reason = "" if passed else f"{name} is {shown}{of}, but {bound} {limit:g} is asked for ({setting})"
        return cls(name, f"{shown}{of}", f"{bound} {limit:g}", bool(passed), reason)

    @classmethod
    def fact(cls, name: str, value: str, expected: str, problem: str = "") -> Self:
        """Passed where there is no problem."""
        return cls(name, value, expected, not problem, f"{name}: {problem}" if problem else "")


def as_table(checks: Sequence[GateCheck]) -> list[str]:
    """Lines of text with aligned columns: check, found, asked for, verdict; then warnings, and why it is refused."""
    rows = [("check", "found", "asked for", ""), *((*map(one_line, (c.name, c.value, c.limit)), c.verdict) for c in checks)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in rows]
    lines += [f"warning: {one_line(check.warning)}" for check in checks if check.warning]
    return lines + [f"refused: {one_line(check.reason)}" for check in checks if not check.passed]


@dataclass(frozen=True)
class JudgedAnswers:
    """A version's answers to the labelled photos that are compared, N of them."""

    probabilities: np.ndarray
    """(N, C), in the order of the candidate's classes."""
    right: np.ndarray
    """bool (N,)"""
    figures: Figures
    breakdown: Breakdown


def answer_problem(answer: dict[str, Any], classes: tuple[str, ...]) -> str:
    """What is wrong with an answer row to a good photo; empty if it is as the contract says."""
    if missing := sorted(set(answer_types(classes)) - set(answer)):
        return f"the answer lacks the columns {missing}"
    if answer["error"]:
        return f"the answer is the error {answer['error_code']}"
    probabilities = [answer[f"prob_{name}"] for name in classes]
    if not all(isinstance(p, (int, float)) and 0 <= p <= 1 for p in probabilities) or abs(sum(probabilities) - 1) > 1e-3:
        return "the probabilities are not shares that add up to 1"
    if answer["predicted_class"] != classes[int(np.argmax(probabilities))]:
        return f"the predicted class {answer['predicted_class']!r} is not the likeliest"
    return "" if answer["decision"] in DECISIONS else f"the decision {answer['decision']!r} is not known"


def absolute(figures: Figures, classes: tuple[str, ...], settings: GateSettings) -> list[GateCheck]:
    """A version by itself: enough photos, accuracy, macro-F1, recall of every class, calibration."""
    n = figures.accuracy.n
    checks = [
        GateCheck.at_least("labelled photos", n, settings.min_photos, "GATE_MIN_PHOTOS"),
        GateCheck.at_least("accuracy", figures.accuracy.value, settings.min_accuracy, "GATE_MIN_ACCURACY", n),
        GateCheck.at_least("macro-F1", figures.macro_f1, settings.min_macro_f1, "GATE_MIN_MACRO_F1", n),
    ]
    for name in classes:
        if name in figures.recall:
            share = figures.recall[name]
            checks.append(GateCheck.at_least(f"recall of {name}", share.value, settings.min_recall, "GATE_MIN_RECALL", share.n))
        else:
            problem = "no labelled photo shows this class, so it cannot be judged"
            checks.append(GateCheck.fact(f"recall of {name}", "unknown", f"at least {settings.min_recall:g}", problem))
    limit = settings.max_calibration_error
    return [*checks, GateCheck.at_most("calibration error", figures.calibration_error, limit, "GATE_MAX_CALIBRATION_ERROR", n)]


def fairness(groups: Groups | None, settings: GateSettings) -> list[GateCheck]:
    """Whether an age band or a sex fares worse than the others; nothing where neither is known."""
    return [] if groups is None else [_group_gap(kind, groups, settings) for kind in groups.parts]


def _group_gap(kind: str, groups: Groups, settings: GateSettings) -> GateCheck:
    """The largest gap of a kind that chance does not explain."""
    name, allowed = f"fairness by {kind}", settings.max_group_gap
    limit = "no gap beyond chance" if allowed is None else f"no gap beyond chance above {allowed:g} (GATE_MAX_GROUP_GAP)"
    unfair = [gap for gap in groups.unfair(settings.alpha) if gap.kind == kind]
    if not unfair:
        largest = next((gap for gap in groups.gaps if gap.kind == kind and gap.loss > 0), None)
        return GateCheck.fact(name, f"within chance, the largest: {largest}" if largest else "no gap", limit)
    sentence = "; ".join(str(gap) for gap in unfair)
    if allowed is not None and unfair[0].loss > allowed + _ROUNDING:
        return GateCheck.fact(name, f"gap {unfair[0].loss:.3f}", limit, sentence)
    return replace(GateCheck.fact(name, f"gap {unfair[0].loss:.3f}", limit), warning=f"{name}: {sentence}")


def paired(production: JudgedAnswers, candidate: JudgedAnswers, settings: GateSettings) -> list[GateCheck]:
    """A version against the one in Production, on the same photos."""
    pairs = Paired.of(production.right, candidate.right)
    before, now = production.figures, candidate.figures
    problem = f"p = {pairs.p_worse:.4g}: {pairs.lost} photos that Production answers rightly are lost, {pairs.won} are won"
    worse = pairs.p_worse < settings.alpha
    checks = [
        GateCheck.fact(
            "paired test against Production",
            f"p = {pairs.p_worse:.4g} ({pairs.lost} lost, {pairs.won} won)",
            f"p at least {settings.alpha:g} (GATE_ALPHA)",
            problem if worse else "",
        )
    ]
    for name in before.recall:
        loss = before.recall[name].value - now.recall[name].value
        label, n = f"loss of recall of {name}", before.recall[name].n
        checks.append(GateCheck.at_most(label, loss, settings.max_recall_loss, "GATE_MAX_RECALL_LOSS", n))
    rise = now.calibration_error - before.calibration_error
    limit, n = settings.max_calibration_loss, now.accuracy.n
    return [*checks, GateCheck.at_most("rise of calibration error", rise, limit, "GATE_MAX_CALIBRATION_LOSS", n)]
