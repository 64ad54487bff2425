"""Photos of a folder, found by the SHA-256 of their bytes, which is all that a record says of them."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from eye_disease.evaluation.class_folders import DataError
from eye_disease.evaluation.photo_files import files_below, why_no_photo
from model_code.package import file_sha256


def hash_photos(
    files: Iterable[Path], progress: Callable[[str, int, int], None] = lambda step, done, total: None
) -> dict[str, Path]:
    """Hex SHA-256 -> file; of several files with the same bytes the first. Raises OSError."""
    listed, digests = list(files), list[str]()
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        for digest in executor.map(file_sha256, listed):
            digests.append(digest)
            progress("Looking through the photos", len(digests), len(listed))
    return dict(reversed(list(zip(digests, listed, strict=True))))


def photo_files(folder: Path) -> list[Path]:
    """Every photo below a folder, sorted. Raises DataError if it is none."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Expected the folder with the photos that were sent to the model.")
    return [path for path in files_below(folder) if path.is_file() and not why_no_photo(path)]
