"""The header of a PNG file (W3C Portable Network Graphics, third edition)."""

import zlib

from model_code.formats.header import Header
from model_code.formats.orientation import orientation
from model_code.image_error import ImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PICTURE = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
"""Chunks that the picture needs. A profile or a text of 2 MB, or a damaged one, is no reason to refuse it."""
_XMP = b"XML:com.adobe.xmp\0"
_RAW_EXIF = b"Raw profile type exif\0"
_MAX_TEXT = 2**18
"""Bytes of an orientation's text that are looked at."""
_BYTES_PER_PIXEL = {0: 1, 2: 4, 3: 1, 4: 4, 6: 4}
"""Colour type -> bytes that Pillow takes for a pixel; grey of 16 bits takes 2."""


def read(data: bytes) -> Header:
    """The header of a PNG file. Raises ImageError: image_corrupt."""
    if data[12:16] != b"IHDR" or len(data) < 29:
        raise ImageError("image_corrupt", "The header of the PNG file is cut off.")
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    depth, colour = data[24], data[25]
    stripped, exif, xmp = _strip(data)
    pixel = 2 if colour == 0 and depth == 16 else _BYTES_PER_PIXEL.get(colour, 4)
    return Header("PNG", width, height, stripped, pixel * width * height, orientation(exif, xmp), bits=depth)


def _strip(data: bytes) -> tuple[bytes, bytes, bytes]:
    """(the file with the picture's chunks alone, EXIF block, XMP)."""
    stripped, exif, xmp = bytearray(SIGNATURE), b"", b""
    position = run = len(SIGNATURE)  # from `run` to `position`, everything is kept
    while position + 8 <= len(data):
        kind = data[position + 4 : position + 8]
        end = position + 12 + int.from_bytes(data[position : position + 4])
        if kind not in _PICTURE:
            stripped += memoryview(data)[run:position]
            if end > len(data):  # the length is damaged: go on at the pixels
                run = position = max(data.find(b"IDAT", position + 8) - 4, position + 8)
                continue
            if kind == b"eXIf":
                exif = exif or data[position + 8 : end - 4]
            elif kind in (b"tEXt", b"zTXt", b"iTXt"):
                body = data[position + 8 : min(end - 4, position + 8 + _MAX_TEXT)]
                exif, xmp = exif or _raw_exif(kind, body), xmp or (body if body.startswith(_XMP) else b"")
            run = end
        position = end
        if kind == b"IEND":
            break
    if run == len(SIGNATURE):
        return data, exif, xmp
    return bytes(stripped + memoryview(data)[run:]), exif, xmp


def _raw_exif(kind: bytes, body: bytes) -> bytes:
    """The EXIF block that ImageMagick writes as hexadecimal text after three lines; empty if this is none."""
    if kind == b"iTXt" or not body.startswith(_RAW_EXIF):
        return b""
    text = body[len(_RAW_EXIF) :]
    try:
        text = zlib.decompressobj().decompress(text[1:], _MAX_TEXT) if kind == b"zTXt" else text
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except (zlib.error, ValueError):
        return b""  # a broken block says nothing of the pixels
