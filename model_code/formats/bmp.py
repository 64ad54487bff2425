"""The header of a BMP file."""

from model_code.formats.header import Header
from model_code.image_error import ImageError

_RUN_LENGTH = {1, 2}
"""Compressions that Pillow first unpacks into a list of its own."""


def read(data: bytes) -> Header:
    """The header of a BMP file. Raises ImageError: format_unsupported."""
    size = int.from_bytes(data[14:18], "little")
    if len(data) < 26 or size not in (12, 40, 52, 56, 64, 108, 124):
        raise ImageError("format_unsupported", "Not a BMP file that is read. Expected a JPEG, PNG, BMP, TIFF or WebP file.")
    if size == 12:
        width, height = (int.from_bytes(data[at : at + 2], "little") for at in (18, 20))
        return Header("BMP", width, height, data, 4 * width * height)
    width, height = (abs(int.from_bytes(data[at : at + 4], "little", signed=True)) for at in (18, 22))
    bits, compression = int.from_bytes(data[28:30], "little"), int.from_bytes(data[30:34], "little")
    pixel = (1 if bits <= 8 else 4) + (2 if compression in _RUN_LENGTH else 0)
    return Header("BMP", width, height, data, pixel * width * height)
