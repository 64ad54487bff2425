"""Original manifest and labelled feedback -> one set to train on, with a validation split that nothing crosses."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from eye_disease.evaluation.manifest import FEEDBACK, DataError, read_manifest, some, whole_table
from eye_disease.evaluation.photo_files import hash_photos, photo_files
from eye_disease.retraining.labelled_photos import Feedback

HELD_OUT = 0.25
"""Share of the feedback's patients whose photos are for validation."""


@dataclass(frozen=True)
class Mixture:
    """What to train on, and what was left out."""

    rows: pd.DataFrame
    """path, label, source, group, split. Paths of the original photos start in their folder, those of the feedback are
    `feedback/<SHA-256><suffix>`: names of a clinic's files go nowhere"""
    files: dict[str, Path]
    """Path of a feedback photo in `rows` -> its file"""
    digests: frozenset[str]
    """SHA-256 of the feedback's photos in `rows`"""
    not_found: int
    """Labelled photos that are not in the clinic's folder"""
    known: int
    """Labelled photos that are in the original manifest already; its label and split stay"""
    patients_known: bool


def mix(manifest: Path, photos: Path, feedback: Feedback, clinic: Path, patients: Path | None) -> Mixture:
    """Join both. patients: a table that says which photos are of one patient; without it each photo counts as a patient's own.

    Raises DataError for a manifest without a split, and where a file cannot be used.
    """
    original = read_manifest(manifest)
    if original["split"].isna().any():
        raise DataError(
            f"{manifest} has no column split. Retraining keeps the validation photos of the first training apart: give the "
            "manifest that it used (artifact training/manifest.csv of its run)."
        )
    if missing := [path for path in original["path"] if not (photos / path).is_file()]:
        raise DataError(f"{len(missing)} photos of {manifest} are not below {photos}, the first: {missing[0]}.")
    duplicates = set(hash_photos(photos / path for path in original["path"])) & set(feedback.photos)
    by_digest = hash_photos(photo_files(clinic))
    files = {digest: by_digest[digest] for digest in feedback.photos if digest in by_digest and digest not in duplicates}
    groups = _groups(files, _patients(patients, clinic) if patients else {})
    paths = {digest: f"{FEEDBACK}/{digest}{file.suffix.lower()}" for digest, file in files.items()}
    added = pd.DataFrame(
        {
            "path": [paths[digest] for digest in files],
            "label": [feedback.photos[digest].label for digest in files],
            "source": FEEDBACK,
            "group": [groups[digest][0] for digest in files],
            "split": ["val" if groups[digest][1] else "train" for digest in files],
        },
        dtype="str",
    )
    rows = pd.concat([original, added], ignore_index=True) if files else original
    not_found = len(feedback.photos) - len(files) - len(duplicates)
    links = {paths[digest]: file for digest, file in files.items()}
    return Mixture(rows, links, frozenset(files), not_found, len(duplicates), patients is not None)


def _patients(path: Path, folder: Path) -> dict[Path, str]:
    """File -> patient, of a table with the columns path (below `folder`) and patient. Raises DataError."""
    rows = whole_table(path, ("path", "patient"))
    if empty := list(rows.index[rows[["path", "patient"]].isna().any(axis=1)]):
        raise DataError(f"{path} has no path or no patient in the {rows.index.name}s {some(empty)}.")
    names = rows["path"].str.replace("\\", "/", regex=False)
    return {folder / name: patient for name, patient in zip(names, rows["patient"], strict=True)}


def _groups(files: dict[str, Path], patients: dict[Path, str]) -> dict[str, tuple[str, bool]]:
    """SHA-256 -> group, and whether it is held out.

    The side follows from the patient alone, so that it is the same in every retraining: what one has learned from, no later
    one is measured on. The group's name follows from its photos, so that it tells nothing of the patient.
    """
    keys = {digest: f"patient {patients[file]}" if file in patients else digest for digest, file in files.items()}
    names = {key: f"{FEEDBACK}-{min(digest for digest in keys if keys[digest] == key)[:12]}" for key in set(keys.values())}
    return {digest: (names[key], _share(key) < HELD_OUT) for digest, key in keys.items()}


def _share(key: str) -> float:
    """0..1, evenly spread over keys."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:12], 16) / 16**12
