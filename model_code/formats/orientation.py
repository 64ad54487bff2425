"""The orientation of a photo, read out of its EXIF or XMP block, and nothing else of them.

Pillow's own reader copies whatever a block's entries point to: 5,000 entries that all name the same 60 kB are 300 MB.
"""

import re

from PIL import Image

_TAG = 0x0112
_SHORT = 3
_MAX_ENTRIES = 1_000
"""Entries of a directory that are looked at; cameras write a few dozen."""
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> how a stored photo is turned upright."""


def orientation(exif: bytes, xmp: bytes = b"") -> int:
    """1 to 8, as EXIF counts; 1 (upright) where neither block says another. A broken block says nothing."""
    turn = _from_exif(exif.removeprefix(b"Exif\0\0"))
    if turn is None and (match := _XMP.search(xmp)):
        turn = int(match[1])
    return turn if turn in _TURNS else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The photo turned as its orientation says."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _from_exif(block: bytes) -> int | None:
    """The tag's value in the first directory of a TIFF structure; None if it is not there."""
    if block[:4] not in (b"II*\0", b"MM\0*"):
        return None

    def number(start: int, size: int) -> int:
        return int.from_bytes(block[start : start + size], "little" if block[:1] == b"I" else "big")

    first = number(4, 4)
    for i in range(min(number(first, 2), _MAX_ENTRIES)):
        entry = first + 2 + 12 * i
        if entry + 12 > len(block):
            return None
        if number(entry, 2) == _TAG:
            return number(entry + 8, 2) if number(entry + 2, 2) == _SHORT else None
    return None
