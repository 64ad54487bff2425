"""Decoded pixels of any mode -> a smaller RGB picture, a strip at a time, so that no second large picture is ever made."""

from collections.abc import Iterator
from typing import cast

import numpy as np
from PIL import Image

from model_code.image_error import ImageError

_STRIP_PIXELS = 2_000_000
_SIXTEEN_BIT = {"I;16", "I;16L", "I;16B", "I;16N"}
_DARKEST = 2**12
"""A 16-bit photo whose brightest sample is below it is one of 8, 10 or 12 bits that does not say so."""


def to_rgb(image: Image.Image, factor: int, bits: int, inverted: bool = False) -> Image.Image:
    """RGB, box-averaged by a whole factor. Transparency is laid over black, the surround of a fundus photo.

    bits: that are used of each sample in the file. inverted: 0 is white, in 16-bit samples.
    Raises ImageError: mode_unsupported (32-bit pixels; 16-bit ones that use a few bits; nothing but transparency).
    """
    if image.mode in {"I", "F"}:
        raise ImageError(
            "mode_unsupported", f"Pixels of mode {image.mode} have no agreed brightness range. Send 8- or 16-bit pixels."
        )
    if image.mode in _SIXTEEN_BIT:
        return _from_sixteen_bits(image, factor, bits, inverted)
    if image.has_transparency_data:
        return _from_transparent(image, factor)
    if image.mode in {"RGB", "L"}:
        rgb = _reduced(image, factor).convert("RGB")
    else:
        rgb = _assembled(image, factor, (strip.convert("RGB") for strip in _strips(image, factor)))
    if bits == 16 and _brightest(rgb) < _DARKEST >> 8:
        raise _few_bits()
    return rgb


def _from_sixteen_bits(image: Image.Image, factor: int, bits: int, inverted: bool) -> Image.Image:
    brightest = max(int(np.asarray(strip).max()) for strip in _strips(image, factor))
    if bits == 16 and brightest < _DARKEST:
        raise _few_bits()
    white = 2**bits - 1

    def grey(strip: Image.Image) -> Image.Image:
        samples = np.minimum(np.asarray(strip).astype(np.uint16), white)
        return Image.fromarray((((white - samples) if inverted else samples) >> (bits - 8)).astype(np.uint8))

    return _assembled(image, factor, (grey(strip).convert("RGB") for strip in _strips(image, factor)))


def _from_transparent(image: Image.Image, factor: int) -> Image.Image:
    bands = (strip.convert("RGBA").getchannel("A") for strip in _strips(image, factor))
    alphas = [cast(tuple[int, int], band.getextrema()) for band in bands]  # of one band, as these are
    if min(low for low, _ in alphas) < max(high for _, high in alphas):
        return _assembled(image, factor, (_over_black(strip.convert("RGBA")) for strip in _strips(image, factor)))
    # A channel that is the same everywhere says nothing: it was added by a program that did not fill it.
    rgb = _assembled(image, factor, (strip.convert("RGBA").convert("RGB") for strip in _strips(image, factor)))
    if alphas[0][0] == 0 and _brightest(rgb) == 0:
        raise ImageError("mode_unsupported", "Every pixel of the photo is transparent. Save it without an alpha channel.")
    return rgb


def _over_black(rgba: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")


def _strips(image: Image.Image, factor: int) -> Iterator[Image.Image]:
    """The picture from top to bottom, whole rows, of a height that `factor` divides."""
    rows = factor * max(1, _STRIP_PIXELS // (image.width * factor))
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _assembled(image: Image.Image, factor: int, strips: Iterator[Image.Image]) -> Image.Image:
    """The strips of `image`, made smaller, below each other."""
    whole = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    top = 0
    for strip in strips:
        small = _reduced(strip, factor)
        whole.paste(small, (0, top))
        top += small.height
    return whole


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    return image.reduce(factor) if factor > 1 else image


def _brightest(rgb: Image.Image) -> int:
    return max(high for _, high in cast(tuple[tuple[int, int], ...], rgb.getextrema()))


def _few_bits() -> ImageError:
    return ImageError(
        "mode_unsupported",
        f"The photo has 16-bit samples, none of them brighter than {_DARKEST - 1}: they seem to use 8, 10 or 12 bits; the"
        " file does not say which. Send 8 bits, or 16 that are used.",
    )
