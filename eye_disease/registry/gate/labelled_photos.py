"""The labelled photos that the gate asks a version about."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from eye_disease.common.progress import Progress
from eye_disease.evaluation.manifest import LEFT_OUT, DataError, of_folder, read_manifest

_KEPT = ("label", "source", "group", "grade", "age", "sex")


@dataclass(frozen=True)
class LabelledPhotos:
    """Different photos with one label each; N of them, in the order of their SHA-256."""

    rows: pd.DataFrame
    """Columns file (Path), sha256, and of the manifest label, source, group, grade, age, sex."""
    twice: int
    """Files left out as copies of another with the same label."""
    contradictory: int
    """Files left out because the same photo has two labels."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Why files of the folder are not taken for photos -> how many."""

    @property
    def digest(self) -> str:
        """SHA-256 of all photos' digests and labels: two sets with it are the same, wherever their files lie."""
        return hashlib.sha256("\n".join(self.rows["sha256"] + " " + self.rows["label"]).encode()).hexdigest()

    def codes(self, classes: tuple[str, ...]) -> np.ndarray:
        """Index of each label in `classes`, int (N,). Raises DataError for a label that is not among them."""
        if unknown := sorted(set(self.rows["label"]) - set(classes)):
            raise DataError(f"The labels {unknown} are not among the model's classes {list(classes)}.")
        return self.rows["label"].map({name: i for i, name in enumerate(classes)}).to_numpy(int)


def read_labelled(data: Path, photos: Path | None = None) -> LabelledPhotos:
    """Read a folder with one subfolder a class, or a manifest; of one with a `split`, the rows of `val`.

    photos: where the manifest's paths start; None: its own folder.
    Raises DataError for data that cannot be used, and for files that are not there.
    """
    rows = of_folder(data) if data.is_dir() else read_manifest(data)
    left_out = {reason: len(paths) for reason, paths in rows.attrs.get(LEFT_OUT, {}).items()}
    if rows["split"].notna().any():
        rows = rows[rows["split"] == "val"]
        if rows.empty:
            raise DataError(f"{data} has a column split, but no row of the split val, which the gate judges by.")
    folder = data if data.is_dir() else photos or data.parent
    files = [folder / path for path in rows["path"]]
    if missing := [line for line, file in zip(rows.index, files, strict=True) if not file.is_file()]:
        raise DataError(
            f"{len(missing)} of {len(files)} photos of {data} are not below {folder}, "
            f"the first in {rows.index.name} {missing[0]}. "
            "Name the folder where its paths start with --photos or GATE_PHOTOS."
        )
    each = Progress().over("Reading the labelled photos", files, len(files))
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in each]
    return _without_copies(rows.assign(file=files, sha256=digests)[["file", "sha256", *_KEPT]], left_out)


def _without_copies(rows: pd.DataFrame, left_out: dict[str, int]) -> LabelledPhotos:
    labels = rows.groupby("sha256")["label"].transform("nunique")
    agreed = rows[labels == 1].drop_duplicates("sha256").sort_values("sha256", ignore_index=True)
    if agreed.empty:
        raise DataError(f"All {len(rows)} photos have two labels.")
    return LabelledPhotos(agreed, int((labels == 1).sum()) - len(agreed), int((labels > 1).sum()), left_out)
