"""One comparison of a window with a limit."""

from dataclasses import dataclass, replace
from typing import Literal, Self

from eye_disease.common.text import clean
from eye_disease.evaluation.multiple import holm

Level = Literal["ok", "warning", "drift"]
UNITS = {"mean_latency": " ms", "p99_latency": " ms"}
"""Statistic -> unit; the others have none."""
LONGEST_PROBLEM = 400
"""Characters of `problem` that are shown."""


@dataclass(frozen=True)
class Check:
    """What was measured, against what; `level` says what came of it."""

    source: Literal["rule", "stream", "lasting", "performance", "service"]
    stream: str
    """What was looked at: a record field, or `embedding`, `accuracy`, `probe`, ..."""
    statistic: str
    value: float
    limit: float
    n: int
    """Records behind the value"""
    beyond: bool
    """Whether the value is on the wrong side of the limit"""
    site: str | None = None
    """None: the whole window"""
    p_value: float | None = None
    """Of a value this far out in a window without drift; None: the limit alone decides"""
    expected: float | None = None
    """What the reference shows"""
    psi: float | None = None
    """Population stability index of the same counts, for those who know it; it decides nothing"""
    problem: str = ""
    """Said in words, where numbers do not"""
    insignificant: Level = "ok"
    """Level of a value beyond its limit that chance explains"""
    significant: Level = "drift"
    """Level of one that it does not"""
    level: Level = "ok"
    windows: int = 1
    """How many of the newest windows are judged together"""

    def decided(self, rejected: bool) -> Self:
        """With its level; rejected: chance does not explain the value."""
        level: Level = "ok" if not self.beyond else self.significant if rejected else self.insignificant
        return replace(self, level=level)

    @property
    def excess(self) -> float:
        """How many times its limit the value is; larger is worse."""
        if self.value == self.limit:
            return 1.0
        small, large = sorted((abs(self.value), abs(self.limit)))
        ratio = large / small if small else float("inf")
        return ratio if self.beyond else 1 / ratio

    def __str__(self) -> str:
        """Fit for whoever reads it: a site's name is its client's, a class's name its model's."""
        where = f"site {clean(self.site) or '(none)'}: " if self.site is not None else ""
        unit = UNITS.get(self.statistic, "")
        expected = "" if self.expected is None else f", reference {_shown(self.expected)}{unit}"
        numbers = f"{self.statistic} {_shown(self.value)}{unit}, limit {_shown(self.limit)}{unit}{expected}, n={self.n}"
        return f"{where}{clean(self.stream)}: {numbers}" + (
            f" ({clean(self.problem, LONGEST_PROBLEM)})" if self.problem else ""
        )


def _shown(value: float) -> str:
    """Three digits, and no powers of ten for milliseconds."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def assign_levels(checks: list[Check], alpha: float) -> list[Check]:
    """Levels of a family of checks: a window without drift has any `significant` one with probability alpha at most."""
    tested = {id(check): check.p_value for check in checks if check.p_value is not None}
    p_values = dict(zip(tested, holm(list(tested.values())), strict=True))
    return [check.decided(p_values.get(id(check), 0.0) <= alpha) for check in checks]
