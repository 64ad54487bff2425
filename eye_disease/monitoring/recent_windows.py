"""The counts of each version's newest windows, from run to run: what is judged together is never read from Parquet again.

A file of its own, some hundred kB: lost or damaged, it costs lasting drift its memory and nothing else.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eye_disease.profiles.layout import Layout
from eye_disease.profiles.tally import Tally
from eye_disease.records.state_file import encode, read_state, set_aside
from eye_disease.records.storage import Storage
from eye_disease.verdict.lasting import MAX_WINDOWS, Recent, RecentWindow
from eye_disease.verdict.since import Since

_COST = "Lasting drift is tested on the windows from now on."


@dataclass(frozen=True)
class _StoredWindows:
    """The file."""

    layout: str
    """Digest of the layout that the windows were counted on"""
    windows: tuple[dict[str, Any], ...]
    """`number` and `tally`, the oldest first"""
    since: Since | None
    """Of the drift that the last one shows"""


class RecentWindows:
    """On disk, a file for each version."""

    def __init__(self, state_dir: Path) -> None:
        self._files = Storage(str(state_dir / "recent"))

    def read(self, model: str, version: str, layout: Layout, judged: int) -> Recent:
        """The windows up to number `judged` that were counted on this layout; what a killed run has added is left out.

        Nothing of a file that was damaged and is set aside now, or is of another reference. Raises StateFileError.
        """
        path = _path(model, version)
        stored = read_state(self._files, path, _StoredWindows, _COST)
        if stored is None or stored.layout != _digest(layout):
            return Recent()
        try:
            windows = tuple(RecentWindow(int(row["number"]), Tally.from_json(row["tally"], layout)) for row in stored.windows)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            set_aside(self._files, path, error, _COST)
            return Recent()
        known = tuple(window for window in windows if window.number <= judged)
        return Recent(known, stored.since if len(known) == len(windows) else None)

    def save(self, model: str, version: str, layout: Layout, recent: Recent) -> None:
        """Replace what is kept; MAX_WINDOWS windows at most."""
        windows = [{"number": window.number, "tally": window.tally.to_json()} for window in recent.windows[-MAX_WINDOWS:]]
        stored = {"layout": _digest(layout), "windows": windows, "since": recent.since and recent.since.to_json()}
        self._files.write(_path(model, version), encode(stored))


def _path(model: str, version: str) -> str:
    return f"{model}/{version}.windows.json"


def _digest(layout: Layout) -> str:
    return hashlib.sha256(json.dumps(layout.to_json()).encode()).hexdigest()
