"""Which files of a folder are photos, and which content each has.

The first bytes say what a file is; its name only where they say nothing. All that a record says of a photo is their SHA-256.
"""

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from eye_disease.common.errors import UserError
from model_code.package import file_sha256

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp"}
SYSTEM = "files and folders of the system (hidden, thumbnails, trash)"
NO_PHOTO = "files that are no photos"
_NOT_READ = "a format that is not read: save it as JPEG or PNG"
_SYSTEM_NAMES = {
    *("@eadir", "__macosx", "#recycle", "#snapshot", "$recycle.bin", "lost+found", "system volume information"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__pycache__"),
}
_RAW_SUFFIXES = {".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2"}
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"II\0*", b"MM*\0")
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}
_OTHERS = {
    b"GIF8": "GIF",
    b"8BPS": "Photoshop",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"%PDF": "PDF",
}
_OF_FTYP = {
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"hevc": "HEIC",
    b"mif1": "HEIC",
    b"msf1": "HEIC",
    b"avif": "AVIF",
    b"avis": "AVIF",
}
_HEAD = 132
"""Bytes that are looked at; DICOM has its mark behind 128."""


class DataError(UserError):
    """Photos or labels that cannot be used."""


def is_system(name: str) -> bool:
    """Whether a file or folder of this name is none that a person has put there."""
    return name.startswith(".") or name.casefold() in _SYSTEM_NAMES


def why_no_photo(path: Path) -> str:
    """Why a file is not taken for a photo; empty if it is. A damaged file with a photo's suffix is: reading it says more."""
    if is_system(path.name):
        return SYSTEM
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if path.suffix.lower() in _RAW_SUFFIXES or head[8:10] == b"CR":
        return f"camera raw, {_NOT_READ}"
    if head.startswith(_STARTS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or _is_bmp(head):
        return ""
    if kind := _other_kind(head):
        return f"{kind}, {_NOT_READ}"
    return "" if path.suffix.lower() in PHOTO_SUFFIXES else NO_PHOTO


def files_below(folder: Path) -> Iterator[Path]:
    """Every file at any depth, by name; folders of the system are not looked into but come out themselves."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not is_system(path.name):
            yield from files_below(path)
        else:
            yield path


def photo_files(folder: Path) -> list[Path]:
    """Every photo below a folder, sorted. Raises DataError if it is none."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Expected the folder with the photos that were sent to the model.")
    return [path for path in files_below(folder) if path.is_file() and not why_no_photo(path)]


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


def _is_bmp(head: bytes) -> bool:
    """Two letters alone would take many a text for one."""
    return head[:2] == b"BM" and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in _BMP_HEADERS


def _other_kind(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        return _OF_FTYP.get(head[8:12], "a video")
    if head[128:132] == b"DICM":
        return "DICOM"
    return next((kind for start, kind in _OTHERS.items() if head.startswith(start)), "")
