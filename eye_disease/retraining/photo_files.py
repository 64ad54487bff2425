"""The clinic's own folder of photos: files found by their SHA-256, and which belong to one patient."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from eye_disease.common.tables import some
from eye_disease.evaluation.manifest import DataError, whole_table
from eye_disease.evaluation.photo_files import files_below, why_no_photo
from model_code.package import file_sha256


def hash_photos(files: Iterable[Path]) -> dict[str, Path]:
    """Hex SHA-256 -> file; of several files with the same bytes the first. Raises OSError."""
    listed = list(files)
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        digests = list(executor.map(file_sha256, listed))
    return dict(reversed(list(zip(digests, listed, strict=True))))


def photo_files(folder: Path) -> list[Path]:
    """Every photo below a folder, sorted. Raises DataError if it is none."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Expected the folder with the photos that were sent to the model.")
    return [path for path in files_below(folder) if path.is_file() and not why_no_photo(path)]


def read_patients(path: Path, folder: Path) -> dict[Path, str]:
    """File -> patient, of a table with the columns path (below `folder`) and patient. Raises DataError."""
    rows = whole_table(path, ("path", "patient"))
    if empty := list(rows.index[rows[["path", "patient"]].isna().any(axis=1)]):
        raise DataError(f"{path} has no path or no patient in the {rows.index.name}s {some(empty)}.")
    names = rows["path"].str.replace("\\", "/", regex=False)
    return {folder / name: patient for name, patient in zip(names, rows["patient"], strict=True)}
