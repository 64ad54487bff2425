"""Bytes of an image file -> pixels. Limits are checked on the header, before anything is decoded."""

import io
import logging
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from model_code.errors import ImageError

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
MIN_SIDE = 32
_SIXTEEN_BIT = {"I;16", "I;16L", "I;16B", "I;16N"}
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Photo:
    """A decoded photo and what its header said."""

    image: Image.Image
    """RGB, upright; may be decoded at a fraction of the original size."""
    width: int
    """Original width in pixels, as stored (before EXIF orientation)."""
    height: int
    """Original height in pixels, as stored."""
    format: str
    """JPEG, PNG, BMP, TIFF or WEBP."""


def decode(data: bytes, working_side: int, max_pixels: int) -> Photo:
    """Decode the first frame of an image file, upright, as RGB.

    working_side: both sides of the result have at least this many pixels where the original has; larger photos are
    decoded scaled (JPEG: in the DCT domain), never at full size when that is not needed.
    Transparency is laid over black, the surround of a fundus photo. Colour profiles are not applied.
    Raises ImageError: format_unsupported, image_too_many_pixels, image_too_small, mode_unsupported, image_corrupt.
    """
    image = _open(data, max_pixels)
    width, height = image.size
    if image.format == "TIFF" and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5:
        width, height = height, width  # for TIFF alone, Pillow tells the size of the upright photo
    if width * height > max_pixels:
        raise _too_many_pixels(f"{width} x {height}", max_pixels)
    if min(width, height) < MIN_SIDE:
        raise ImageError("image_too_small", f"The photo is {width} x {height} pixels. Expected at least {MIN_SIDE} a side.")
    file_format = "JPEG" if image.format == "MPO" else str(image.format)
    try:
        image.draft(None, (working_side, working_side))
        image.load()
        image = _shrink(image, working_side)
        image = _to_rgb(_upright(image))
    except ImageError:
        raise
    except Exception as error:  # Pillow's plugins raise many kinds on broken files; the photo is answered with its own error
        raise ImageError("image_corrupt", f"The {file_format} file cannot be decoded ({type(error).__name__}).") from error
    return Photo(image, width, height, file_format)


def _open(data: bytes, max_pixels: int) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError(
            "format_unsupported", "Not an image that can be read. Expected a JPEG, PNG, BMP, TIFF or WebP file."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # a warning where warnings are errors
        raise _too_many_pixels("more than 89 million", max_pixels) from None
    except Exception as error:  # as above: a header that a plugin recognises but cannot parse
        raise ImageError("image_corrupt", f"The header of the image cannot be read ({type(error).__name__}).") from error


def _too_many_pixels(given: str, max_pixels: int) -> ImageError:
    return ImageError(
        "image_too_many_pixels",
        f"The photo has {given} pixels, the limit is {max_pixels:,}. Send a smaller photo or raise MAX_IMAGE_PIXELS.",
    )


def _shrink(image: Image.Image, working_side: int) -> Image.Image:
    """Box-average by a whole factor, so that later steps never see more than about twice the working side."""
    factor = min(image.size) // working_side
    if factor < 2 or image.mode in {"P", "PA", "1"} | _SIXTEEN_BIT:
        return image
    return image.reduce(factor)


def _upright(image: Image.Image) -> Image.Image:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception as error:  # a broken EXIF block says nothing of the pixels: keep the photo as stored
        _logger.debug("EXIF orientation ignored: %s", type(error).__name__)
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        # Pillow's own conversion clips at 255; a 16-bit photo spans 0..65535.
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in {"I", "F"}:
        raise ImageError(
            "mode_unsupported", f"Pixels of mode {image.mode} have no agreed brightness range. Send 8- or 16-bit pixels."
        )
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    return image.convert("RGB")
