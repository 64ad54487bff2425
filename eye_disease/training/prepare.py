"""From a manifest to photos that may be trained on: readable, without contradictions, split by group."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from eye_disease.evaluation.class_folders import summary
from eye_disease.evaluation.confounding import warnings_of
from eye_disease.evaluation.duplicates import Fingerprint, contradicting, find_duplicates, joined_groups
from eye_disease.evaluation.manifest import LEFT_OUT, some
from eye_disease.training import split as manifest
from eye_disease.training.photos import Photos, load_squares
from eye_disease.training.split import DataError
from eye_disease.training.targets import possible_classes
from model_code.preprocessing import Recipe

SQUARES, DUPLICATES, USED, NOT_TAKEN = "squares.npy", "duplicates.csv", "manifest.csv", "not_taken.csv"
"""In the work folder: the decoded photos, the pairs of photos alike, the manifest as it was used, files that are no photos."""


@dataclass
class Preparation:
    """Photos, and what a person should know about them."""

    photos: Photos
    remarks: list[str] = field(default_factory=list)


def prepare_photos(
    rows: pd.DataFrame,
    folder: Path,
    classes: tuple[str, ...] | None,
    recipe: Recipe,
    work: Path,
    drop_bad: bool,
    validation_share: float,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    more: pd.DataFrame | None = None,
) -> Preparation:
    """Check, decode, compare and split; the work folder keeps the decoded photos and two reports.

    more: photos that are not of exactly one class, with their split; see training.targets for their labels.
    drop_bad: leave unreadable photos and those that have two labels out, instead of refusing the set.
    Raises DataError with what is wrong.
    """
    classes = manifest.check(rows, classes)
    work.mkdir(parents=True, exist_ok=True)
    rows, more = _numbered(rows, more, classes)
    everything = pd.concat([rows, more]) if len(more) else rows
    squares, problems = load_squares(folder, everything, recipe, work / SQUARES, progress)
    remarks = _left_out(rows.attrs.get(LEFT_OUT, {}), work)
    if problems:
        path, problem = next(iter(problems.items()))
        fault = f"{len(problems)} of {len(everything)} photos cannot be read, the first: {path}: {problem}"
        remarks.append(_drop_or_refuse(fault, drop_bad))
        rows, more = rows[~rows["path"].isin(problems)], more[~more["path"].isin(problems)]
    pairs = find_duplicates(rows, [Fingerprint.of(squares[place]) for place in rows.index])
    pairs.drop(columns=["first", "second"]).to_csv(work / DUPLICATES, index=False)
    if len(pairs):
        remarks.append(
            f"{len(pairs)} pairs of near-duplicate photos ({pairs['identical'].sum()} identical): {work / DUPLICATES}."
        )
    if len(bad := contradicting(pairs)):
        fault = f"{len(bad)} photos have two labels, the first: {bad['path_1'].iloc[0]} and {bad['path_2'].iloc[0]}"
        remarks.append(_drop_or_refuse(fault, drop_bad))
        contradictory = np.unique(bad[["first", "second"]].to_numpy(int))
    else:
        contradictory = np.array([], int)
    rows, remarks = _split(rows, pairs, remarks, validation_share, seed, contradictory)
    manifest.check(rows, classes)
    remarks += [f"Warning: {fault}" for fault in warnings_of(rows)]
    manifest.refuse_crossing(pd.concat([rows, more]))
    pd.concat([rows, more]).to_csv(work / USED, index=False)
    return Preparation(Photos(rows, squares, classes, recipe, more), remarks)


def _numbered(rows: pd.DataFrame, more: pd.DataFrame | None, classes: tuple[str, ...]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables, the index counting on from the first to the second. Raises DataError for labels or splits of `more`."""
    rows = rows.reset_index(drop=True)
    if more is None:
        return rows, rows.iloc[:0]
    if more["split"].isna().any() or rows["split"].isna().any():
        raise DataError("Photos of several or no classes need a column split, and so does the manifest. Expected train or val.")
    if twice := sorted(set(rows["path"]) & set(more["path"])):
        raise DataError(f"The photos {some(twice)} are named in both tables.")
    possible_classes(more, classes)
    return rows, more.set_index(pd.RangeIndex(len(rows), len(rows) + len(more)))


def _left_out(files: dict[str, list[str]], work: Path) -> list[str]:
    """What to say of files that were not taken; all of them go into NOT_TAKEN."""
    if not files:
        return []
    named = [(path, reason) for reason, paths in files.items() for path in paths]
    pd.DataFrame(named, columns=["path", "reason"]).to_csv(work / NOT_TAKEN, index=False)
    return [f"{summary(files)} All of them: {work / NOT_TAKEN}."]


def _split(
    rows: pd.DataFrame, pairs: pd.DataFrame, remarks: list[str], share: float, seed: int, left_out: np.ndarray
) -> tuple[pd.DataFrame, list[str]]:
    if rows["split"].isna().any():
        if (rows["group"] == rows["path"]).all():
            remarks.append(
                "No group column: photos of one patient (both eyes, repeated visits) may lie on both sides of the split, and "
                "then every validation figure is too good. Add a column `group` with the patient to the manifest."
            )
        rows = rows.assign(group=joined_groups(rows["group"], pairs))
    elif len(pairs):
        sides = rows["split"].to_numpy()
        across = sides[pairs["first"].to_numpy(int)] != sides[pairs["second"].to_numpy(int)]
        if across.any():
            remarks.append(f"{across.sum()} pairs of photos alike lie on both sides of the given split; see {DUPLICATES}.")
    rows = rows.drop(index=rows.index[left_out])
    return manifest.split(rows, share, seed), remarks


def _drop_or_refuse(fault: str, drop_bad: bool) -> str:
    if not drop_bad:
        raise DataError(f"{fault}. Correct the set, or leave them out with --drop-bad.")
    return f"{fault}. Left out."
