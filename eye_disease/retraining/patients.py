"""Which photos of the clinic's own folder belong to one patient."""

from pathlib import Path

from eye_disease.common.tables import some
from eye_disease.evaluation.manifest import DataError, whole_table


def read_patients(path: Path, folder: Path) -> dict[Path, str]:
    """File -> patient, of a table with the columns path (below `folder`) and patient. Raises DataError."""
    rows = whole_table(path, ("path", "patient"))
    if empty := list(rows.index[rows[["path", "patient"]].isna().any(axis=1)]):
        raise DataError(f"{path} has no path or no patient in the {rows.index.name}s {some(empty)}.")
    names = rows["path"].str.replace("\\", "/", regex=False)
    return {folder / name: patient for name, patient in zip(names, rows["patient"], strict=True)}
