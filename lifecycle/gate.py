"""The gate before Production: a version is served, asked and judged; the evidence stays in MLflow."""

from dataclasses import dataclass
from pathlib import Path

from lifecycle.gate_settings import GateSettings


@dataclass(frozen=True)
class GateResult:
    """What the gate found."""

    passed: bool
    reasons: tuple[str, ...]
    """Why the version is refused, a sentence each; empty if it passed."""
    evidence_run_id: str
    """MLflow run with figures, plots and every check."""
    champion: str | None
    """The version in Production that it was compared with; None where there is none."""


class GateError(ValueError):
    """The gate cannot judge: the version, the labelled photos or a setting is not what it should be."""


def validate(name: str, version: str, labelled: Path | None, settings: GateSettings) -> GateResult:
    """Judge a registered version; logs the evidence and tags the version, moves no stage.

    labelled: a folder with one subfolder a class, or a manifest CSV; None: GATE_DATA, if set.
    Raises GateError where it cannot judge.
    """
    raise GateError("The gate is being built.")
