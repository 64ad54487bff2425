"""A folder with one subfolder a class: which photos it holds, and what in it is none, by reason."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from eye_disease.common.tables import some
from eye_disease.evaluation.photo_files import SYSTEM, DataError, files_below, is_system, why_no_photo

NESTED = "photos in a folder below a class's folder: move them up"
BESIDE = "photos that lie beside the class folders, not in one"


@dataclass(frozen=True)
class ClassFolders:
    """Paths that start in the folder."""

    photos: list[Path]
    """`<class>/<file>`"""
    left_out: dict[str, list[str]]
    """Reason -> every file or system folder that is not taken"""


def scan(folder: Path) -> ClassFolders:
    """Look at every file of a folder. Raises DataError if it is none, holds no photo, or a class's folder holds none."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Expected a folder with one subfolder a class.")
    photos: list[Path] = []
    left_out: dict[str, list[str]] = defaultdict(list)
    for path in files_below(folder):
        place = path.relative_to(folder)
        if reason := SYSTEM if path.is_dir() else _reason(path, len(place.parts)):
            left_out[reason].append(str(place))
        else:
            photos.append(place)
    if not photos:
        expected = f"Expected {folder}/<class>/<photo>.jpg (or png, bmp, tiff, webp)."
        raise DataError(f"{folder} holds no photos. {expected} {summary(left_out)}".strip())
    classes = {path.name for path in folder.iterdir() if path.is_dir() and not is_system(path.name)}
    if empty := sorted(classes - {photo.parts[0] for photo in photos}):
        inside = {reason: [path for path in paths if path.split("/")[0] in empty] for reason, paths in left_out.items()}
        raise DataError(
            f"The class folders {some(empty)} of {folder} hold no photos. {summary(inside)} ".strip()
            + " Put photos into them, or take out what is no class."
        )
    return ClassFolders(photos, dict(left_out))


def summary(left_out: dict[str, list[str]]) -> str:
    """A sentence on what is not taken: how many of each reason, the first of them by name; empty where nothing is."""
    parts = [f"{len(paths):,} {reason} ({some(paths)})" for reason, paths in sorted(left_out.items()) if paths]
    return f"Not taken: {'; '.join(parts)}." if parts else ""


def _reason(path: Path, depth: int) -> str:
    reason = why_no_photo(path)
    if reason or depth == 2:
        return reason
    return NESTED if depth > 2 else BESIDE
