"""Labelled photos: a table with the columns of COLUMNS, from a folder or a CSV."""

from pathlib import Path

import pandas as pd

from eye_disease.common.errors import UserError

SPLITS = ("train", "val")
COLUMNS = ("path", "label", "source", "group", "split", "sex", "finding", "grade", "age")
"""All text but the last two, float64. grade: of diabetic retinopathy, 0..4 (Wilkinson et al., Ophthalmology 110(9), 2003). age:
of the patient in years. What is not known is nan."""
_NUMBERS = {"grade": (0, 4), "age": (0, 130)}
"""Column -> the least and the largest value."""
FEEDBACK = "feedback"
"""Source of photos that came in from daily work and were labelled afterwards; their pixels go nowhere but into training."""
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


class DataError(UserError):
    """Photos or labels that cannot be used."""


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
    """A manifest CSV with columns path and label, and those of the other COLUMNS that are known: group is the patient.

    Raises DataError for a missing column, an empty cell, a split that is neither `train` nor `val`, and a wrong number.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file. Expected a CSV with the columns path and label.")
    try:
        rows = pd.read_csv(path, dtype=str)
    except ValueError as error:  # pandas' own errors are ValueErrors
        raise DataError(f"{path} cannot be read as a CSV: {error}") from error
    if missing := {"path", "label"} - set(rows.columns):
        raise DataError(
            f"{path} lacks the columns {sorted(missing)}. Expected path and label; source, group and split if known."
        )
    for column in {"path", "label", "group", "split"} & set(rows.columns):
        if empty := list(rows.index[rows[column].isna()] + 2):
            raise DataError(f"{path} has no {column} in the lines {some(empty)}.")
    if "split" in rows and (unknown := set(rows["split"]) - set(SPLITS)):
        raise DataError(f"{path} has the splits {sorted(unknown)}. Expected only {' and '.join(SPLITS)}.")
    for column in set(_NUMBERS) & set(rows.columns):
        rows[column] = _numbers(rows[column], path)
    return _completed(rows)


def _numbers(column: pd.Series, path: Path) -> pd.Series:
    """Texts -> float64, nan where there is none. Raises DataError for what is no number within _NUMBERS."""
    least, most = _NUMBERS[str(column.name)]
    numbers = pd.to_numeric(column, errors="coerce")
    if wrong := list(column.index[column.notna() & ~numbers.between(least, most)] + 2):
        raise DataError(
            f"{path} has no {column.name} from {least} to {most} in the lines {some(wrong)}. Leave it empty if it is unknown."
        )
    return numbers.astype("float64")


def _completed(rows: pd.DataFrame) -> pd.DataFrame:
    """Absent columns filled: source `unknown`, a group for each photo, nothing else known."""
    types = {name: "float64" if name in _NUMBERS else "str" for name in COLUMNS}
    rows = rows.reindex(columns=list(COLUMNS)).astype(types)
    rows["source"] = rows["source"].fillna("unknown")
    if rows["group"].isna().all():
        rows["group"] = rows["path"]
        rows.attrs["grouped"] = False
    return rows


def some(items: list[object]) -> str:
    """The first five, and how many more."""
    shown = ", ".join(str(item) for item in items[:5])
    return f"{shown} and {len(items) - 5} more" if len(items) > 5 else shown
