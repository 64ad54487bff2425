"""Everything known about one judged window: what results, report and alerts are made from. Never a record."""

from dataclasses import dataclass
from datetime import datetime

from eye_disease.monitoring.alarm import AlarmState, Event
from eye_disease.monitoring.version_state import PastWindow
from eye_disease.profiles.profile import Profile
from eye_disease.profiles.reference import Reference
from eye_disease.verdict.explain import explain
from eye_disease.verdict.realised import RealisedPerformance
from eye_disease.verdict.service import Health
from eye_disease.verdict.verdict import Verdict
from model_code.promise import Promise


@dataclass(frozen=True)
class Findings:
    """Of window `number` of a model version."""

    model: str
    version: str
    number: int
    judged: datetime
    verdict: Verdict
    profile: Profile
    reference: Reference | None
    alarm: AlarmState
    """After this window"""
    event: Event | None
    """What this window did to the alarm"""
    realised: RealisedPerformance | None
    """On the predictions of the last weeks that have a label; None without labels"""
    health: Health | None
    """None: not probed"""
    load_time_seconds: float | None
    """Of the model"""
    history: tuple[PastWindow, ...]
    """The windows so far, this one last"""
    notes: tuple[str, ...]
    """What a reader must know to take the figures for what they are, a sentence each"""
    promise: Promise | None = None
    """What the version's package promises of reported answers; None: nothing"""

    @property
    def problem(self) -> str:
        """A sentence."""
        return explain(self.verdict)[0]

    @property
    def action(self) -> str:
        """What to do, a sentence."""
        return explain(self.verdict)[1]

    @property
    def span(self) -> str:
        """The window in words."""
        first, last = self.verdict.first, self.verdict.last
        if first is None or last is None:
            return f"window {self.number}, empty, judged {self.judged:%Y-%m-%d %H:%M} UTC"
        return f"window {self.number}, {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
