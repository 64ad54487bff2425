"""What the header of an image file says, and what decoding the file will take."""

from dataclasses import dataclass, field

from model_code.image_error import ImageError

MIN_SIDE = 32
MAX_DECODE_MEMORY = 160 * 2**20
"""Bytes that one decode may take for pixels and buffers. Known from the header; a photo that needs more is refused."""
_AREA_FACTOR = 16
"""Pixels that are kept of a very long photo, as a multiple of the working side's square."""


@dataclass(frozen=True)
class Header:
    """A file's header, checked."""

    format: str
    """JPEG, PNG, BMP, TIFF, WEBP or DICOM."""
    width: int
    """As stored, before any turn."""
    height: int
    data: bytes = field(repr=False)
    """The file for its decoder, without what the picture does not need (EXIF, colour profile, thumbnails, text)."""
    memory: int
    """Bytes that decoding takes at most, beside the file itself."""
    orientation: int = 1
    """As EXIF counts, 1 to 8."""
    bits: int = 8
    """Bits a sample that are used: 16-bit samples may hold 10, 12 or 14."""
    inverted: bool = False
    """Whether 0 is white, in pixels whose decoder does not turn that round."""
    scans: int = 1
    """Of a JPEG; more than one are held in memory together."""
    defect: str | None = None
    """What is wrong with the file and is tolerated: `no_end_marker`, `leading_bytes`."""


def require_decodable(header: Header, max_pixels: int) -> None:
    """Refuse by its header a photo that is too small, has too many pixels, or takes too much memory.

    Raises ImageError: image_too_many_pixels, image_too_small.
    """
    width, height = header.width, header.height
    if width * height > max_pixels:
        raise ImageError(
            "image_too_many_pixels",
            f"The photo has {width} x {height} pixels, the limit is {max_pixels:,}."
            " Send a smaller photo or raise MAX_IMAGE_PIXELS.",
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError("image_too_small", f"The photo is {width} x {height} pixels. Expected at least {MIN_SIDE} a side.")
    if header.memory > MAX_DECODE_MEMORY:
        raise ImageError(
            "image_too_many_pixels",
            f"Decoding this {header.format} of {width} x {height} pixels takes {header.memory / 2**20:,.0f} MiB, the limit is"
            f" {MAX_DECODE_MEMORY // 2**20}. Send a smaller photo, or a baseline JPEG, which is decoded scaled.",
        )


def shrink_factor(width: int, height: int, working_side: int) -> int:
    """The whole factor by which a photo can be made smaller and still have the working side.

    A photo much longer than wide is made smaller all the same, so that later steps see a bounded number of pixels.
    """
    by_side = min(width, height) // working_side
    by_area = 1
    while width * height > _AREA_FACTOR * working_side**2 * by_area**2:
        by_area += 1
    return max(1, by_side, by_area)
