"""Labelled photos: a table with the columns of COLUMNS, from a folder or a table in a file."""

from pathlib import Path

import pandas as pd

from eye_disease.common.tables import TableError, read_table, some
from eye_disease.evaluation.class_folders import scan
from eye_disease.evaluation.photo_files import DataError

__all__ = ["COLUMNS", "FEEDBACK", "LEFT_OUT", "SPLITS", "DataError", "of_folder", "read_manifest", "some", "whole_table"]

SPLITS = ("train", "val")
COLUMNS = ("path", "label", "source", "group", "split", "sex", "finding", "grade", "age")
"""All text but the last two, float64. grade: of diabetic retinopathy, 0..4 (Wilkinson et al., Ophthalmology 110(9), 2003). age:
of the patient in years. What is not known is nan."""
_NUMBERS = {"grade": (0, 4), "age": (0, 130)}
"""Column -> the least and the largest value."""
FEEDBACK = "feedback"
"""Source of photos that came in from daily work and were labelled afterwards; their pixels go nowhere but into training."""
LEFT_OUT = "left_out"
"""Key of `attrs`: reason -> paths of files in the folder that are not taken."""


def of_folder(folder: Path) -> pd.DataFrame:
    """The manifest of a folder with one subfolder a class; `attrs` has LEFT_OUT. Raises DataError as `class_folders.scan`."""
    folders = scan(folder)
    rows = pd.DataFrame(
        {"path": [path.as_posix() for path in folders.photos], "label": [path.parts[0] for path in folders.photos]}
    )
    rows = _completed(rows)
    rows.attrs[LEFT_OUT] = folders.left_out
    return rows


def read_manifest(path: Path) -> pd.DataFrame:
    """A manifest (CSV, .xlsx, Parquet) with columns path and label, and those of the other COLUMNS that are known: group is the
    patient. The index is the line in the file.

    Raises DataError for a missing column, a row that cannot be read, an empty cell, a split that is neither `train` nor `val`,
    and a wrong number.
    """
    rows = whole_table(path, ("path", "label"))
    rows["path"] = rows["path"].str.replace("\\", "/", regex=False)  # as Windows writes paths
    for column in {"path", "label", "group", "split"} & set(rows.columns):
        if empty := list(rows.index[rows[column].isna()]):
            raise DataError(f"{path} has no {column} in the {rows.index.name}s {some(empty)}.")
    if "split" in rows:
        rows["split"] = rows["split"].str.lower()
        if unknown := set(rows["split"]) - set(SPLITS):
            raise DataError(f"{path} has the splits {sorted(unknown)}. Expected only {' and '.join(SPLITS)}.")
    for column in set(_NUMBERS) & set(rows.columns):
        rows[column] = _numbers(rows[column], path)
    return _completed(rows)


def whole_table(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    """`common.tables.read_table` where every row counts. Raises DataError, also for a row that could not be read."""
    try:
        table = read_table(path, needed)
    except TableError as error:
        raise DataError(str(error)) from error
    if table.bad:
        kind = table.rows.index.name
        raise DataError(f"{path}: {some(f'{kind} {line} {why}' for line, why in table.bad.items())}.")
    return table.rows


def _numbers(column: pd.Series, path: Path) -> pd.Series:
    """Texts, with a point or a comma, -> float64, nan where there is none. Raises DataError for none within _NUMBERS."""
    least, most = _NUMBERS[str(column.name)]
    numbers = pd.to_numeric(column.str.replace(",", ".", regex=False), errors="coerce")
    if wrong := list(column.index[column.notna() & ~numbers.between(least, most)]):
        raise DataError(
            f"{path} has no {column.name} from {least} to {most} in the {column.index.name}s {some(wrong)}. "
            "Leave it empty if it is unknown."
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
