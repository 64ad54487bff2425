"""The header of a WebP file (RFC 9649)."""

from model_code.formats.header import Header
from model_code.formats.orientation import orientation
from model_code.image_error import ImageError

_BYTES_PER_PIXEL = 20
"""libwebp's two canvases and its own buffer, the frame as bytes, and Pillow's picture: 4 bytes each."""


def read(data: bytes) -> Header:
    """The header of a WebP file. Raises ImageError: image_corrupt."""
    kind = data[12:16]
    if len(data) < 30:
        raise ImageError("image_corrupt", "The header of the WebP file is cut off.")
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
    elif kind == b"VP8L":
        packed = int.from_bytes(data[21:25], "little")
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    else:
        raise ImageError("image_corrupt", "The WebP file does not begin with a picture.")
    exif, xmp = _chunks(data) if kind == b"VP8X" else (b"", b"")
    return Header("WEBP", width, height, data, _BYTES_PER_PIXEL * width * height, orientation(exif, xmp))


def _chunks(data: bytes) -> tuple[bytes, bytes]:
    """The bodies of the first chunks EXIF and XMP."""
    chunks: dict[bytes, bytes] = {}
    position = 12
    while position + 8 <= len(data):
        kind, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        if kind in (b"EXIF", b"XMP "):
            chunks.setdefault(kind, data[position + 8 : position + 8 + size])
        position += 8 + size + size % 2
    return chunks.get(b"EXIF", b""), chunks.get(b"XMP ", b"")
