"""The last verdict on each version, as a file: written by the job, read by the exporter and the terminal."""

import json
from collections.abc import Mapping
from pathlib import Path

from eye_disease.records.storage import Storage

_FILE = "statuses.json"


def write_statuses(state_dir: Path, statuses: Mapping[tuple[str, str], str]) -> None:
    """Replace what is known: (model, version) -> status of its last window."""
    listed = [[*version, status] for version, status in sorted(statuses.items())]
    Storage(str(state_dir)).write(_FILE, json.dumps(listed).encode())


def read_statuses(state_dir: Path) -> dict[tuple[str, str], str]:
    """(model, version) -> status of its last window; empty before the first."""
    try:
        listed = json.loads((state_dir / _FILE).read_text())
    except FileNotFoundError:
        return {}
    return {(model, version): status for model, version, status in listed}
