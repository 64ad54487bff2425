"""One image file of any format -> a decoded photo, in this process."""

from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from model_code.decode_pixels import decode_pixels
from model_code.dicom import decode_dicom
from model_code.formats import is_dicom, read_header
from model_code.formats.header import Header, require_decodable


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
    """JPEG, PNG, BMP, TIFF, WEBP or DICOM."""
    defect: str | None = None
    """What was wrong with the file and was tolerated: see `Header.defect`."""
    facts: dict[str, Any] = field(default_factory=dict)
    """DICOM_FACTS, of a DICOM file."""


def decode_file(data: bytes, working_side: int, max_pixels: int, deadline: float) -> Photo:
    """As `decode.decode`; deadline: of `time.monotonic`, looked at for JPEG, PNG and BMP alone."""
    if is_dicom(data):
        image, header, facts = decode_dicom(data, working_side, max_pixels, deadline)
        return Photo(image, header.width, header.height, header.format, facts=facts)
    header = read_header(data, working_side)
    require_decodable(header, max_pixels)
    return decode_header(header, working_side, deadline)


def decode_header(header: Header, working_side: int, deadline: float) -> Photo:
    """As `decode_file`, of a file whose header was found decodable."""
    image = decode_pixels(header, working_side, deadline)
    return Photo(image, header.width, header.height, header.format, header.defect)
