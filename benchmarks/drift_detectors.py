"""The detectors: ours in this process, the peers each in a virtual environment of its own, on the same windows."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.drift_windows import Trial
from eye_disease.profiles.columns import column
from eye_disease.profiles.layout import Layout
from eye_disease.profiles.profile import Profile
from eye_disease.profiles.reference import Reference
from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.verdict import judge

OURS = "ours"
_PEERS = Path(__file__).resolve().parent / "peers"
_TIMEOUT_SECONDS = 4 * 3600


class PeerError(RuntimeError):
    """A peer that could not be installed or did not answer; the message holds the end of its output."""


@dataclass(frozen=True)
class Finding:
    """What one detector says of one window."""

    drift: bool
    kind: str | None = None
    """Of ours only"""
    score: float = 0.0
    """Of peers: larger for more drift, so that their level can be set to ours"""


@dataclass(frozen=True)
class Peer:
    """A package with a program that judges windows."""

    package: str
    requirements: tuple[str, ...]
    program: str
    detectors: tuple[str, ...]
    """Names of what the program answers with, in order"""


EVIDENTLY = Peer(
    "evidently",
    ("evidently==0.7.23", "pandas<3"),
    "evidently_drift.py",
    ("Evidently: any column", "Evidently: dataset drift"),
)
ALIBI = Peer(
    "alibi-detect",
    ("alibi-detect==0.13.0",),
    "alibi_drift.py",
    ("Alibi Detect: TabularDrift", "Alibi Detect: ClassifierDrift"),
)
PEERS = (EVIDENTLY, ALIBI)


def judge_ours(trial: Trial, classes: tuple[str, ...]) -> list[Finding]:
    """Reference, profile and verdict with the default limits."""
    reference = Reference.build(trial.reference, classes, "benchmark", "benchmark")
    verdicts = (judge(Profile.from_table(one.records, reference.layout), reference, DriftLimits()) for one in trial.windows)
    return [Finding(verdict.status == "drift", verdict.kind) for verdict in verdicts]


def judge_with(peer: Peer, python: Path, trial: Trial, chosen: Sequence[int], classes: tuple[str, ...]) -> list[list[Finding]]:
    """A finding a detector for each of the chosen windows. Raises PeerError."""
    streams = Layout.fit(trial.reference, classes).streams
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "windows.npz"
        windows = {f"window_{i:06d}": _matrix(trial.windows[i].records, streams, classes) for i in chosen}
        np.savez(given, names=np.array(streams), reference=_matrix(trial.reference, streams, classes), **windows)
        command = [str(python), str(_PEERS / peer.program), str(given)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS)
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) != len(chosen):
        raise PeerError(f"{peer.package} answered {len(lines)} of {len(chosen)} windows: {done.stderr[-2000:]}")
    return [[Finding(bool(drift), score=score) for drift, score in json.loads(line)] for line in lines]


def environment_of(peer: Peer, cache: Path) -> Path:
    """Python of the peer's virtual environment below `cache`, made if it is not there. Raises PeerError."""
    folder = cache / peer.package
    python, made = folder / "bin" / "python", folder / "made.json"
    wanted = json.dumps(peer.requirements)
    if made.is_file() and made.read_text() == wanted:
        return python
    _uv("venv", "--clear", "--python", sys.executable, str(folder))
    _uv("pip", "install", "--python", str(python), *peer.requirements)
    made.write_text(wanted)
    return python


def _uv(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "uv", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PeerError(f"uv {' '.join(arguments)}: {done.stderr[-2000:]}")


def _matrix(records: pa.Table, streams: Sequence[str], classes: tuple[str, ...]) -> np.ndarray:
    """float64 (N, streams + 1): the numeric streams, and the predicted class as its number."""
    numeric = [column(records, name, pa.float64()).to_numpy(zero_copy_only=False) for name in streams]
    predicted = [classes.index(name) for name in records["predicted_class"].to_pylist()]
    return np.column_stack([*numeric, np.array(predicted, float)])
