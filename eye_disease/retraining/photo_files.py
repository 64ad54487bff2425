"""The clinic's own folder of photos: files found by their SHA-256, and which belong to one patient."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from eye_disease.evaluation.manifest import PHOTO_SUFFIXES, DataError, some
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
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file())


def read_patients(path: Path, folder: Path) -> dict[Path, str]:
    """File -> patient, of a CSV with the columns path (below `folder`) and patient. Raises DataError."""
    if not path.is_file():
        raise DataError(f"{path} is not a file. Expected a CSV with the columns path and patient.")
    rows = pd.read_csv(path, dtype=str)
    if missing := {"path", "patient"} - set(rows.columns):
        raise DataError(f"{path} lacks the columns {sorted(missing)}. Expected path and patient.")
    if empty := list(rows.index[rows[["path", "patient"]].isna().any(axis=1)] + 2):
        raise DataError(f"{path} has no path or no patient in the lines {some(empty)}.")
    return {folder / name: patient for name, patient in zip(rows["path"], rows["patient"], strict=True)}
