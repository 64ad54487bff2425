"""What the job remembers of each version between runs. Saving it is the moment at which a window is dealt with."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from eye_disease.common.errors import UserError
from eye_disease.monitoring.action_rules import Grounds, Request
from eye_disease.monitoring.alarm import AlarmState
from eye_disease.monitoring.alerts import Alert
from eye_disease.records.storage import Storage
from eye_disease.verdict.verdict import Status, Verdict

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
        kept = [check for check in verdict.checks if check.site is None and check.source in ("stream", "performance")]
        figures = {f"{check.stream} {check.statistic}": (round(check.value, 5), round(check.limit, 5)) for check in kept}
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
    grounds: Grounds = field(default_factory=Grounds)
    due: tuple[Request, ...] = ()
    """To be done since the last window, and not yet asked for"""
    history: tuple[PastWindow, ...] = ()
    """The last KEPT_WINDOWS, oldest first"""

    @property
    def status(self) -> Status | None:
        """Of the last window; None before any."""
        return self.history[-1].status if self.history else None

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        stored = asdict(self) | {"judged": self.judged and self.judged.isoformat()}
        stored["history"] = [asdict(one) | {"end": one.end.isoformat()} for one in self.history]
        return stored

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises KeyError, TypeError, ValueError for anything else."""
        changes: dict[str, Any] = {"alarm": AlarmState.from_json(stored["alarm"])}
        changes["judged"] = stored["judged"] and datetime.fromisoformat(stored["judged"])
        changes["alert"] = stored["alert"] and Alert(**stored["alert"])
        changes["grounds"] = Grounds.from_json(stored["grounds"]) if "grounds" in stored else Grounds()  # of an older job
        changes["due"] = tuple(Request(**one) for one in stored.get("due", ()))
        changes["history"] = tuple(_past_window(one) for one in stored["history"])
        return cls(**{**stored, **changes})


class Memories:
    """On disk, a file for each version."""

    def __init__(self, state_dir: Path) -> None:
        self._files = Storage(str(state_dir / "versions"))

    def read(self, model: str, version: str) -> VersionMemory:
        """Empty before the first window. Raises UserError if the file is damaged."""
        path = f"{model}/{version}.json"
        try:
            return VersionMemory.from_json(json.loads(self._files.read(path)))
        except FileNotFoundError:
            return VersionMemory()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{self._files.full(path)} is damaged ({type(error).__name__}: {error}). Restore it from a backup; without it "
                "all records are judged again as one window."
            ) from error

    def save(self, model: str, version: str, memory: VersionMemory) -> None:
        """Replace what is remembered."""
        self._files.write(f"{model}/{version}.json", json.dumps(memory.to_json()).encode())


def _past_window(stored: Mapping[str, Any]) -> PastWindow:
    figures = {name: (value, limit) for name, (value, limit) in stored["figures"].items()}
    return PastWindow(**{**stored, "end": datetime.fromisoformat(stored["end"]), "figures": figures})
