"""What the job remembers of each version between runs. Saving it is the moment at which a window is dealt with."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from eye_disease.monitoring.action_rules import ActionState, Request
from eye_disease.monitoring.alarm import AlarmState
from eye_disease.monitoring.alerts import Alert
from eye_disease.records.state_file import decode, encode, read_bytes, read_state
from eye_disease.records.storage import Storage
from eye_disease.verdict.verdict import Status, Verdict

_LATER_FIELDS = ("grounds", "due", "sites")
MERGED = "newest windows merged"
"""Name of the figure that says how near the newest windows together are to a drift"""
KEPT_WINDOWS = 96
"""Judged windows that the report looks back on: a day of one every quarter of an hour."""


@dataclass(frozen=True)
class PastWindow:
    """A judged window, as the report shows it later."""

    number: int
    end: datetime
    """Of its last record, or when it was judged if it had none"""
    status: Status
    n: int
    confidence: float | None
    """Mean"""
    figures: Mapping[str, tuple[float, float]]
    """`<stream> <statistic>` -> value and limit, of the whole window"""

    @classmethod
    def of(cls, number: int, verdict: Verdict, confidence: float | None, judged: datetime) -> Self:
        """What is kept of a verdict."""
        shown = [check for check in verdict.checks if check.site is None and check.source in ("stream", "performance")]
        figures = {f"{check.stream} {check.statistic}": (round(check.value, 5), round(check.limit, 5)) for check in shown}
        figures |= {MERGED: (round(verdict.lasting, 5), 1.0)} if verdict.lasting is not None else {}
        return cls(number, verdict.last or judged, verdict.status, verdict.n, confidence, figures)


@dataclass(frozen=True)
class VersionMemory:
    """Of one model version."""

    commit: int = 0
    """Last commit of the store that is in a judged window"""
    records: int = 0
    """Records of these commits, canaries included"""
    predictions: int = 0
    """The same, canaries left out"""
    missing: int = 0
    """Gaps in the sequence numbers up to there"""
    windows: int = 0
    """Judged so far"""
    judged: datetime | None = None
    """When the last one was"""
    alarm: AlarmState = field(default_factory=AlarmState)
    alert: Alert | None = None
    """Raised or cleared by the last window, and not yet handed to the outbox"""
    grounds: ActionState = field(default_factory=ActionState)
    due: tuple[Request, ...] = ()
    """To be done since the last window, and not yet asked for"""
    sites: tuple[str, ...] = ()
    """Those that drifted in the last window"""
    history: tuple[PastWindow, ...] = ()
    """The last KEPT_WINDOWS, oldest first"""

    @property
    def status(self) -> Status | None:
        """Of the last window; None before any."""
        return self.history[-1].status if self.history else None

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        stored = asdict(self) | {"judged": self.judged and self.judged.isoformat()}
        stored["history"] = [asdict(past) | {"end": past.end.isoformat()} for past in self.history]
        return stored


class Memories:
    """On disk, a file for each version."""

    def __init__(self, state_dir: Path) -> None:
        self._files = Storage(str(state_dir / "versions"))

    def read(self, model: str, version: str) -> VersionMemory:
        """Empty before the first window, and of a file that was damaged and is set aside now. Raises StateFileError."""
        cost = "All records of this version are judged again as one window."
        return read_state(self._files, f"{model}/{version}.json", VersionMemory, cost, _LATER_FIELDS) or VersionMemory()

    def save(self, model: str, version: str, memory: VersionMemory) -> None:
        """Replace what is remembered."""
        self._files.write(f"{model}/{version}.json", encode(memory.to_json()))

    def statuses(self) -> dict[tuple[str, str], Status]:
        """(model, version) -> status of its last window, of all that were judged; for those who only look, now and then."""
        statuses: dict[tuple[str, str], Status] = {}
        for path in self._files.files("", recursive=True):
            model, _, name = path.rpartition("/")
            try:
                memory = decode(read_bytes(self._files, path), VersionMemory, _LATER_FIELDS)
            except (ValueError, FileNotFoundError):  # the job names it, and sets it aside
                continue
            if memory.status is not None:
                statuses[model, name.removesuffix(".json")] = memory.status
        return statuses
