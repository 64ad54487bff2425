"""A file whose header was found decodable -> its pixels, with Pillow, in whatever process this is."""

import io
import time
import warnings

from PIL import Image, UnidentifiedImageError

from model_code.formats.header import Header, shrink_factor
from model_code.formats.jpeg import END, USUAL_SCANS
from model_code.formats.orientation import upright
from model_code.image_error import ImageError
from model_code.pixels import to_rgb

_SMALL_BLOCK = 1024
"""Bytes between looks at the deadline for a JPEG of many scans, of which 64 KiB hold more than a thousand."""
_PADDING = b"\x55" * 64

# Pillow warns of every odd tag, in the file's own words and at every request.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode_pixels(header: Header, working_side: int, deadline: float) -> Image.Image:
    """The pixels of a file whose header was found decodable, upright, as RGB.

    deadline: of `time.monotonic`. Raises ImageError: mode_unsupported, decode_timeout, image_corrupt.
    """
    try:
        if header.defect and "no_end_marker" in header.defect:
            return _decode_endless(header, working_side, deadline)
        return _decode(header, header.data, working_side, deadline)
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        code = "mode_unsupported" if header.format == "TIFF" else "image_corrupt"
        raise ImageError(code, f"The {header.format} file has pixels of a kind that is not read.") from error
    except Exception as error:  # Pillow's plugins raise many kinds on broken files; the photo is answered with its own error
        raise ImageError("image_corrupt", f"The {header.format} file cannot be decoded ({type(error).__name__}).") from error


def _decode(header: Header, data: bytes, working_side: int, deadline: float) -> Image.Image:
    image = Image.open(_Timed(data, deadline), formats=(header.format,))
    if header.scans > USUAL_SCANS:
        image.decodermaxblock = _SMALL_BLOCK
    factor = shrink_factor(*image.size, working_side)
    image.draft(None, (max(1, image.width // factor), max(1, image.height // factor)))
    image.load()
    factor = shrink_factor(*image.size, working_side)
    return upright(to_rgb(image, factor, header.bits, header.inverted), header.orientation)


def _decode_endless(header: Header, working_side: int, deadline: float) -> Image.Image:
    """A JPEG without an end marker: whole if what comes after its last byte makes no difference."""
    image, other = (_decode(header, header.data + more + END, working_side, deadline) for more in (b"", _PADDING))
    if image.tobytes() != other.tobytes():
        raise ImageError("image_corrupt", "The JPEG file is cut off: a part of the picture is missing.")
    return image


class _Timed(io.BytesIO):
    """A file in memory that can be read until the deadline."""

    def __init__(self, data: bytes, deadline: float) -> None:
        super().__init__(data)
        self._deadline = deadline

    def read(self, size: int | None = -1, /) -> bytes:
        """As BytesIO.read. Raises ImageError: decode_timeout."""
        if time.monotonic() > self._deadline:
            raise timed_out()
        return super().read(size)


def timed_out() -> ImageError:
    """The error of a photo that takes too long."""
    return ImageError(
        "decode_timeout",
        "Decoding the photo takes longer than DECODE_TIMEOUT_SECONDS. Send a smaller one, as baseline JPEG.",
    )
