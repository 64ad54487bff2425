"""Bytes of an image file -> pixels. Limits are checked on the header, before anything is decoded.

JPEG, PNG and BMP are decoded here, as they are read: their decoders take a bounded time for a block of the file, and the
deadline is looked at between blocks. The other formats are decoded in a process of their own (`decode_process`), since
their decoders can be neither interrupted nor bounded, and write to standard error.
"""

import time

from model_code.decode_file import Photo, decode_header
from model_code.decode_process import WORKERS
from model_code.formats import FORMATS, is_dicom, read_header
from model_code.formats.header import MIN_SIDE, require_decodable

__all__ = ["FORMATS", "MIN_SIDE", "Photo", "decode"]

TIMEOUT_SECONDS = 10.0
_HERE = {"JPEG", "PNG", "BMP"}


def decode(data: bytes, working_side: int, max_pixels: int, timeout_seconds: float = TIMEOUT_SECONDS) -> Photo:
    """Decode the first frame of an image file, upright, as RGB.

    working_side: both sides of the result have at least this many pixels where the original has (unless it is more than
    8 times as long as wide); larger photos are decoded scaled (JPEG: in the DCT domain), never at full size when that is
    not needed. Transparency is laid over black, the surround of a fundus photo. Colour profiles are not applied.
    Raises ImageError: format_unsupported, image_too_many_pixels, image_too_many_scans, image_too_small, mode_unsupported,
    multi_frame, decode_timeout, image_corrupt.
    """
    if not is_dicom(data):
        header = read_header(data, working_side)
        require_decodable(header, max_pixels)
        if header.format in _HERE:
            return decode_header(header, working_side, time.monotonic() + timeout_seconds)
    return WORKERS.decode(data, working_side, max_pixels, timeout_seconds)
