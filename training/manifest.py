"""Which photos to train on: a table with columns path, label, source, group and split, checked before any work is done."""

from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

SPLITS = ("train", "val")
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
MIN_PHOTOS = 4
"""Of a class, so that both splits can have some."""


class DataError(ValueError):
    """Photos or labels that cannot be trained on."""


def of_folder(folder: Path) -> pd.DataFrame:
    """The manifest of a folder with one subfolder a class. Raises DataError if there is no photo in it."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Expected a folder with one subfolder a class.")
    photos = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if not photos:
        raise DataError(f"{folder} holds no photos. Expected {folder}/<class>/<photo>.jpg (or png, bmp, tiff, webp).")
    rows = pd.DataFrame({"path": [str(path.relative_to(folder)) for path in photos], "label": [p.parent.name for p in photos]})
    return _completed(rows)


def read_manifest(path: Path) -> pd.DataFrame:
    """A manifest CSV with columns path and label, and source, group (patient) and split (train, val) if known.

    Raises DataError for a missing column, an empty cell or a split that is neither `train` nor `val`.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file. Expected a CSV with the columns path and label.")
    rows = pd.read_csv(path, dtype=str)
    if missing := {"path", "label"} - set(rows.columns):
        raise DataError(
            f"{path} lacks the columns {sorted(missing)}. Expected path and label; source, group and split if known."
        )
    for column in {"path", "label", "group", "split"} & set(rows.columns):
        if empty := list(rows.index[rows[column].isna()] + 2):
            raise DataError(f"{path} has no {column} in the lines {_some(empty)}.")
    if "split" in rows and (unknown := set(rows["split"]) - set(SPLITS)):
        raise DataError(f"{path} has the splits {sorted(unknown)}. Expected only {' and '.join(SPLITS)}.")
    return _completed(rows)


def check(rows: pd.DataFrame, classes: tuple[str, ...] | None) -> tuple[str, ...]:
    """The classes, in order. Raises DataError for too few of them or of their photos, and for labels that look like typos."""
    labels = rows["label"].value_counts()
    if classes and (unknown := sorted(set(labels.index) - set(classes))):
        raise DataError(f"The labels {unknown} are not among the classes {list(classes)}.")
    known = classes or tuple(sorted(labels.index))
    if len(known) < 2:
        raise DataError(f"All photos bear the one label {list(known)}. Expected at least two classes.")
    if not classes:
        _refuse_typos(labels)
    if rare := {name: int(labels.get(name, 0)) for name in known if labels.get(name, 0) < MIN_PHOTOS}:
        raise DataError(f"Too few photos of {rare}. Expected at least {MIN_PHOTOS} of each class.")
    if twice := list(rows["path"][rows["path"].duplicated()]):
        raise DataError(f"The photos {_some(twice)} are named more than once.")
    return known


def _refuse_typos(labels: pd.Series) -> None:
    for label, photos in labels.items():
        others = {other.strip().lower(): other for other in labels.index if labels[other] > photos}
        if alike := get_close_matches(label.strip().lower(), others, n=1, cutoff=0.85):
            raise DataError(
                f"The label {label!r} ({photos} photos) looks like {others[alike[0]]!r} mistyped. "
                "Correct it, or name all classes with --classes if both are meant."
            )


def split(rows: pd.DataFrame, validation_share: float, seed: int) -> pd.DataFrame:
    """`rows` with a `split`: the given one, or one that keeps groups whole and classes in proportion.

    Raises DataError where a group lies on both sides, or a class on one side only.
    """
    rows = rows.copy()
    if rows["split"].isna().any():
        folds = StratifiedGroupKFold(max(2, round(1 / validation_share)), shuffle=True, random_state=seed)
        _, validation = next(folds.split(rows, rows["label"], rows["group"]))
        rows["split"] = np.where(np.isin(np.arange(len(rows)), validation), "val", "train")
    sides = rows.groupby("group")["split"].nunique()
    if crossing := list(sides.index[sides > 1]):
        raise DataError(f"The groups {_some(crossing)} have photos in train and in val. Put each group on one side.")
    for name in SPLITS:
        if lacking := sorted(set(rows["label"]) - set(rows["label"][rows["split"] == name])):
            raise DataError(f"The split {name} has no photo of {lacking}. Move some there, or add photos of other patients.")
    return rows


def _completed(rows: pd.DataFrame) -> pd.DataFrame:
    """Absent columns filled: source `unknown`, a group for each photo, no split."""
    rows = rows.reindex(columns=["path", "label", "source", "group", "split"]).astype("str")
    rows["source"] = rows["source"].fillna("unknown")
    if rows["group"].isna().all():
        rows["group"] = rows["path"]
        rows.attrs["grouped"] = False
    return rows


def _some(items: list[object]) -> str:
    shown = ", ".join(str(item) for item in items[:5])
    return f"{shown} and {len(items) - 5} more" if len(items) > 5 else shown
