"""One retraining on disk: its plan and its progress, so that the same command resumes one that was interrupted.

<work>/<number>/plan.json           Plan
<work>/<number>/photos/             manifest.csv, and links: original/ to the first training's photos, feedback/<SHA-256>
<work>/<number>/training/           the training's own work folder
<work>/<number>/package/            the candidate's model package
<work>/<number>/registered.json     its version
<work>/<number>/result.json         how it ended
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd

from eye_disease.evaluation.manifest import FEEDBACK, read_manifest
from eye_disease.retraining.mixture import Mixture
from eye_disease.training.loop import HISTORY

_ORIGINAL = "original"


@dataclass(frozen=True)
class Plan:
    """What a candidate is made from, fixed before the training starts: labels that come meanwhile wait for the next."""

    name: str
    base: str
    """Version number that is trained on"""
    why: str
    feedback: int
    """Labelled photos that are used"""
    new: int
    """Those of them that no retraining has used before"""
    held_out: int
    """Those of them that are for validation"""
    original: int
    """Photos of the original manifest"""
    until: str
    """Time of the newest label, ISO 8601 UTC"""
    left_out: dict[str, int]
    """Why -> labels or photos"""

    @property
    def description(self) -> str:
        """A sentence for the model's card."""
        return (
            f"Retrained from version {self.base} with {self.feedback:,} photos labelled after they were answered "
            f"({self.held_out:,} of them held out) and {self.original:,} of the first training's manifest."
        )

    def tags(self) -> dict[str, str]:
        """Of the candidate's version."""
        return {
            "retrained_from": self.base,
            "retrained_why": self.why,
            "feedback_labels": str(self.feedback),
            "feedback_labels_new": str(self.new),
            "feedback_until": self.until,
        }


class RunFolder:
    """Of one retraining."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.photos, self.training, self.package = path / "photos", path / "training", path / "package"
        self.manifest = self.photos / "manifest.csv"

    @classmethod
    def unfinished(cls, work: Path) -> Self | None:
        """The newest, if an epoch of it or its version is there, but not its end; what came less far is planned anew."""
        newest = next(iter(reversed(cls._all(work))), None)
        if newest is None or newest.read("plan") is None or newest.read("result") is not None:
            return None
        begun = (newest.training / HISTORY).is_file() or newest.read("registered") is not None
        return newest if begun else None

    @classmethod
    def new(cls, work: Path) -> Self:
        """An empty one."""
        last = max((int(folder.path.name) for folder in cls._all(work)), default=0)
        folder = cls(work / f"{last + 1:04d}")
        folder.path.mkdir(parents=True)
        return folder

    @classmethod
    def _all(cls, work: Path) -> list[Self]:
        return [cls(path) for path in sorted(work.glob("[0-9]*")) if path.name.isdecimal()]

    def prepare(self, plan: Plan, mixture: Mixture, photos: Path) -> None:
        """Lay the photos out as links; the plan comes last, and makes the folder one that can be resumed."""
        (self.photos / FEEDBACK).mkdir(parents=True, exist_ok=True)
        (self.photos / _ORIGINAL).symlink_to(photos.resolve(), target_is_directory=True)
        for path, file in mixture.files.items():
            (self.photos / path).symlink_to(file.resolve())
        original = ~mixture.rows["path"].isin(list(mixture.files))
        rows = mixture.rows.assign(path=mixture.rows["path"].where(~original, f"{_ORIGINAL}/" + mixture.rows["path"]))
        rows.to_csv(self.manifest, index=False)
        self.write("plan", asdict(plan))

    def plan(self) -> Plan:
        """What `prepare` has written."""
        return Plan(**json.loads((self.path / "plan.json").read_text()))

    def rows(self) -> pd.DataFrame:
        """What to train on; paths start in `photos`."""
        return read_manifest(self.manifest)

    def read(self, step: str) -> dict[str, Any] | None:
        """A step that was done; None if it was not."""
        path = self.path / f"{step}.json"
        content: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
        return content

    def write(self, step: str, content: dict[str, Any]) -> None:
        """Remember a step, atomically."""
        partial = self.path / f"{step}.partial"
        partial.write_text(json.dumps(content, indent=1))
        partial.replace(self.path / f"{step}.json")
