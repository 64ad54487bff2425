"""When an alarm is raised and cleared, and when a window is ready to be judged. Pure: state in, state out."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, Self

from eye_disease.profiles.profile import Profile
from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.verdict import Status

Event = Literal["raise", "clear"]


@dataclass(frozen=True)
class AlarmState:
    """Of one model version, between two windows."""

    raised: bool = False
    bad: int = 0
    """Bad windows in a row, up to the last one"""
    good: int = 0
    """Good windows in a row"""

    def __post_init__(self) -> None:
        if self.bad < 0 or self.good < 0 or (self.bad and self.good):
            raise ValueError(f"bad={self.bad}, good={self.good}: expected counts, at least one of them 0.")

    def after(self, status: Status, limits: DriftLimits) -> tuple[Self, Event | None]:
        """The state after a window's verdict, and what to tell the world.

        `drift` is bad, `ok` and `warning` are good; `insufficient_data` says nothing and changes nothing.
        """
        if status == "insufficient_data":
            return self, None
        if status == "drift":
            state = replace(self, bad=self.bad + 1, good=0)
            rises = not self.raised and state.bad >= limits.raise_after
            return replace(state, raised=self.raised or rises), "raise" if rises else None
        state = replace(self, bad=0, good=self.good + 1)
        clears = self.raised and state.good >= limits.clear_after
        return replace(state, raised=self.raised and not clears), "clear" if clears else None


def is_due(profile: Profile, opened: datetime, now: datetime, limits: DriftLimits) -> bool:
    """Whether an open window is judged now; otherwise it waits for more records.

    Errors count: a window of nothing but errors must not wait. opened: when the window got its first record or, if it is
    empty, when it began; both times with a time zone.
    """
    records = profile.whole.answered + profile.whole.failed
    return records >= limits.min_predictions or now - opened >= timedelta(hours=limits.max_wait_hours)
