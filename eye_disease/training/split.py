"""Which photos may be trained on: labels and splits, checked before any work is done."""

import unicodedata
from difflib import get_close_matches

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from eye_disease.common.tables import some
from eye_disease.evaluation.class_folders import summary
from eye_disease.evaluation.manifest import LEFT_OUT, SPLITS, DataError, of_folder, read_manifest

__all__ = ["MIN_PHOTOS", "DataError", "check", "of_folder", "read_manifest", "split"]

MIN_PHOTOS = 4
"""Of a class, so that both splits can have some."""


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
        not_taken = summary(rows.attrs.get(LEFT_OUT, {}))
        raise DataError(f"Too few photos of {rare}. Expected at least {MIN_PHOTOS} of each class. {not_taken}".rstrip())
    if twice := list(rows["path"][rows["path"].duplicated()]):
        raise DataError(f"The photos {some(twice)} are named more than once.")
    return known


def _refuse_typos(labels: pd.Series) -> None:
    for label, photos in labels.items():
        # Of labels with as many photos each is held against those before it, so that each pair is seen once.
        others = {_plain(other): other for other in labels.index if (labels[other], label) > (photos, other)}
        if alike := get_close_matches(_plain(str(label)), others, n=1, cutoff=0.85):
            raise DataError(
                f"The label {label!r} ({photos} photos) looks like {others[alike[0]]!r} mistyped. "
                "Correct it, or name all classes with --classes if both are meant."
            )


def _plain(label: str) -> str:
    """A label without what people do not mean by it: case, blanks, underscores, accents' form."""
    return " ".join(unicodedata.normalize("NFC", label).casefold().replace("_", " ").replace("-", " ").split())


def split(rows: pd.DataFrame, validation_share: float, seed: int) -> pd.DataFrame:
    """`rows` with a `split`: the given one, or one that keeps groups whole and classes in proportion.

    Raises DataError where a group lies on both sides, or a class on one side only.
    """
    rows = rows.copy()
    if rows["split"].isna().any():
        validation = _validation(rows, validation_share, seed)
        rows["split"] = np.where(np.isin(np.arange(len(rows)), validation), "val", "train")
    refuse_crossing(rows)
    for name in SPLITS:
        if lacking := sorted(set(rows["label"]) - set(rows["label"][rows["split"] == name])):
            raise DataError(f"The split {name} has no photo of {lacking}. Move some there, or add photos of other patients.")
    return rows


def refuse_crossing(rows: pd.DataFrame) -> None:
    """Raises DataError where a group lies on both sides of the split."""
    sides = rows.groupby("group")["split"].nunique()
    if crossing := list(sides.index[sides > 1]):
        raise DataError(f"The groups {some(crossing)} have photos in train and in val. Put each group on one side.")


def _validation(rows: pd.DataFrame, share: float, seed: int) -> np.ndarray:
    """Positions of the photos to validate on: about `share` of them, of every class some where it has groups for both sides."""
    groups_of_rarest = int(rows.groupby("label")["group"].nunique().min())
    folds = StratifiedGroupKFold(max(2, min(round(1 / share), groups_of_rarest)), shuffle=True, random_state=seed)
    candidates = [validation for _, validation in folds.split(rows, rows["label"], rows["group"])]
    labels = rows["label"].to_numpy(str)
    fitting = (fold for fold in candidates if set(labels[fold]) == set(np.delete(labels, fold)) == set(labels))
    return next(fitting, candidates[0])
