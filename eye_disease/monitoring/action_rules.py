"""Which confirmed findings start an action (command, rollback). Pure: state in, state out."""

from dataclasses import dataclass, field
from typing import Literal, Self

from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.service import Health
from eye_disease.verdict.verdict import Verdict

Step = Literal["command", "rollback"]
"""command: what DRIFT_ON_RAISE names. rollback: Production goes back to the version before."""


@dataclass(frozen=True)
class Request:
    """Something to be done about a version, once."""

    step: Step
    model: str
    version: str
    window: int
    """Number of the window that gave the last reason"""
    reason: str
    """A sentence"""

    @property
    def id(self) -> str:
        """A file name of its own; those of a version sort by window."""
        return f"{self.model}-{self.version}-{self.window:08d}-{self.step}"


@dataclass(frozen=True)
class ActionState:
    """Of one model version, between two windows.

    A reason to act is confirmed by as many windows in a row as raise an alarm, and acted on once while that alarm lasts. It is
    counted for itself: an alarm raised by dark photos is no reason to roll back when the canary goes wrong a single time.
    """

    drifting: int = 0
    """Windows in a row with a drift of the answers, whatever the service does"""
    faulty: int = 0
    """Windows in a row in which the version itself was wrong"""
    taken: tuple[Step, ...] = field(default_factory=tuple)
    """Asked for since the alarm was raised"""

    def after(
        self, verdict: Verdict, health: Health | None, version: str, raised: bool, limits: DriftLimits
    ) -> tuple[Self, dict[Step, str]]:
        """The state after a window, and what is to be done now with the reason for it. raised: the alarm, after this window."""
        if verdict.status == "insufficient_data":
            return self, {}
        drift, fault = _drift(verdict), version_fault(verdict, health, version)
        counts: dict[Step, int] = {
            "command": self.drifting + 1 if drift else 0,
            "rollback": self.faulty + 1 if fault else 0,
        }
        taken = self.taken if raised else ()
        reasons: dict[Step, str] = {"command": drift, "rollback": fault}
        due = {step: reasons[step] for step, n in counts.items() if raised and n >= limits.raise_after and step not in taken}
        return type(self)(counts["command"], counts["rollback"], (*taken, *due)), due


def version_fault(verdict: Verdict, health: Health | None, version: str) -> str:
    """What the version itself does wrong, a sentence; empty if nothing.

    It answers its own canary photo wrongly, or its realised accuracy has fallen, more than chance explains. A server that is
    down or refuses requests, slow answers, clients' broken photos and photos of another kind are not the version's fault.
    """
    if health is not None and health.wrong and health.model_version == version:
        return health.reason or "The answer to the canary photo is wrong."
    for check in verdict.reasons:
        if (check.stream, check.statistic, check.level) == ("accuracy", "realised", "drift"):
            return f"Labels say that the answers are less often right than they were: {check}."
    return ""


def _drift(verdict: Verdict) -> str:
    for check in verdict.reasons:
        if check.level == "drift" and check.source != "service":
            return f"The answers have drifted: {check}."
    return ""
