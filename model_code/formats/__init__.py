"""Which format an image file has, and what its header says."""

from model_code.formats import bmp, jpeg, png, tiff, webp
from model_code.formats.header import Header
from model_code.image_error import ImageError

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
_TIFF = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")
_MAX_LEADING_BYTES = 4096
_FOREIGN = (b"%PDF", b"PK", b"GIF8", b"8BPS", b"MZ", b"\x7fELF", b"RIFF", b"<", b"{\\rtf", b"\xd0\xcf\x11\xe0", b"%!", b"ID3")
"""Files of other kinds that may hold a JPEG, a preview or one of many pictures, which is not what was sent."""


def is_dicom(data: bytes) -> bool:
    """Whether a file is DICOM, as its preamble says."""
    return data[128:132] == b"DICM"


def read_header(data: bytes, working_side: int) -> Header:
    """The header of an image file of any format.

    working_side: as in `decode`. Raises ImageError: format_unsupported, mode_unsupported, image_too_many_scans, image_corrupt.
    """
    if data.startswith(jpeg.START + b"\xff"):
        return jpeg.read(data, working_side)
    if data.startswith(png.SIGNATURE):
        return png.read(data)
    if data.startswith(_TIFF):
        return tiff.read(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return webp.read(data)
    if data.startswith(b"BM"):
        return bmp.read(data)
    if not data.startswith(_FOREIGN) and data[4:8] != b"ftyp":
        start = data.find(jpeg.START + b"\xff", 0, _MAX_LEADING_BYTES)
        if start >= 0:
            return jpeg.read(data, working_side)
    raise ImageError("format_unsupported", "Not an image that can be read. Expected a JPEG, PNG, BMP, TIFF or WebP file.")
