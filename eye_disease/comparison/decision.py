"""Promote, keep, or wait: what a comparison's labels and the challenger's health allow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from eye_disease.common.text import clean
from eye_disease.evaluation.paired import Outcomes, interval, log_evidence_better, log_evidence_worse
from model_code.setting_fields import Settings, number, whole

Choice = Literal["promote", "keep", "not enough evidence yet"]


@dataclass(frozen=True)
class CompareLimits(Settings):
    """Every limit of a comparison's decision; shares are 0..1."""

    alpha: float = number("COMPARE_ALPHA", 0.05, 1e-6, 0.5)
    """Probability that the labels ever speak for the wrong version, however often one looks."""
    margin: float = number("COMPARE_MARGIN", 0.02, 0, 0.5)
    """How much less accurate than the champion a challenger may be that is promoted; 0: it must be better."""
    max_recall_loss: float = number("COMPARE_MAX_RECALL_LOSS", 0.05, 0, 1)
    """Recall of a class that a promoted challenger may lose."""
    min_labels: int = whole("COMPARE_MIN_LABELS", 50)
    """Labelled answers of each version before anything is decided."""


@dataclass(frozen=True)
class Decision:
    """On the challenger."""

    choice: Choice
    reasons: tuple[str, ...]
    """A sentence each, the decisive one first"""
    difference: tuple[float, float]
    """Challenger's accuracy minus champion's: the interval that holds at every look, with COMPARE_ALPHA"""
    evidence_for: float
    """Natural logarithm of the e-value that it is above -COMPARE_MARGIN"""
    evidence_against: float
    """The same, that it is below"""
    needed: float
    """What either must reach"""


def decide(outcomes: Outcomes, by_class: Mapping[str, Outcomes], objections: list[str], limits: CompareLimits) -> Decision:
    """outcomes: of all labelled photos; by_class: of those of each class. objections: what speaks against the challenger
    whatever the labels say, a sentence each.

    Either version is preferred wrongly with probability alpha / 2 at most, over all looks together.
    """
    needed = float(np.log(2 / limits.alpha))
    better, worse = log_evidence_better(outcomes, -limits.margin), log_evidence_worse(outcomes, -limits.margin)
    span = interval(outcomes, limits.alpha)
    measured = (
        f"Challenger's accuracy minus champion's: {span[0]:+.3f} to {span[1]:+.3f}, on {outcomes.pairs:,} labelled photos that "
        f"both had (challenger alone right: {outcomes.won:,}, champion alone right: {outcomes.lost:,}), "
        f"{sum(outcomes.champion):,} that only the champion had and {sum(outcomes.challenger):,} that only the challenger had."
    )
    objections = [*objections, *_lost_recall(by_class, limits)]
    choice: Choice = "not enough evidence yet"
    labels = outcomes.pairs + min(sum(outcomes.champion), sum(outcomes.challenger))
    if labels < limits.min_labels:
        why = f"{labels:,} of the {limits.min_labels:,} labels that a decision needs; `drift_job.py feedback` takes them."
    elif worse >= needed:
        choice, why = "keep", f"The challenger is less accurate than the margin of {limits.margin:g} allows."
    elif better < needed:
        why = f"The labels leave open on which side of {-limits.margin:+.3f} the difference lies: more are needed."
    elif objections:
        choice, why = "keep", "The challenger is accurate enough, but something else speaks against it."
    elif span[0] > 0:
        choice, why = "promote", "The challenger is more accurate."
    else:
        choice, why = "promote", f"The challenger is not less accurate than the margin of {limits.margin:g} allows."
    return Decision(choice, (why, measured, *objections), span, better, worse, needed)


def _lost_recall(by_class: Mapping[str, Outcomes], limits: CompareLimits) -> list[str]:
    """Classes of whose photos the challenger finds fewer, by more than is allowed and than chance explains."""
    needed = np.log(len(by_class) / limits.alpha) if by_class else 0.0
    return [
        f"The challenger finds fewer photos of {clean(name)}: its recall is lower by more than {limits.max_recall_loss:g}."
        for name, outcomes in by_class.items()
        if log_evidence_worse(outcomes, -limits.max_recall_loss) >= needed
    ]
