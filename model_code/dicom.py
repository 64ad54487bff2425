"""An ophthalmic photograph as DICOM (PS3.3, PS3.5) -> its pixels and the few facts of its header that a record may hold.

Needs pydicom (`requirements-dicom.txt`). Called in the decode worker alone: pydicom unpacks whole files and repeats header
values, names among them, in its warnings.
"""

import io
import math
import re
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from model_code.decode_pixels import decode_pixels
from model_code.formats import jpeg
from model_code.formats.header import Header, require_decodable, shrink_factor
from model_code.image_error import ImageError
from model_code.pixels import to_rgb

_GREY, _YBR = {"MONOCHROME1", "MONOCHROME2"}, {"YBR_FULL", "YBR_FULL_422"}
_COLOUR = {"RGB", "YBR_ICT", "YBR_RCT", *_YBR}
_JPEG = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"}
_JPEG_2000 = {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"}
_UNCOMPRESSED = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"}
_BYTES_PER_SAMPLE = {"uncompressed": 2, "JPEG 2000": 6, "other": 4}
"""Of memory for each byte of pixels: what decoder, arrays and picture hold together."""
_NO_TRANSFORM = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
"""The segment by which a JPEG says that its components are red, green and blue."""
_ADOBE = re.compile(rb"\xff\xee\x00[\x0e-\xff]Adobe")
"""That segment, long enough for libjpeg to believe it."""
_MAX_MODEL = 64


def load_pydicom() -> None:
    """Import it, which takes a while, before a photo's time begins. Raises ImageError: format_unsupported."""
    try:
        import pydicom.pixels  # noqa: F401
    except ImportError:
        raise ImageError("format_unsupported", "DICOM is not read here: pip install -r requirements-dicom.txt.") from None


def decode_dicom(
    data: bytes, working_side: int, max_pixels: int, deadline: float
) -> tuple[Image.Image, Header, dict[str, Any]]:
    """(RGB, width and height, DICOM_FACTS) of a DICOM file of one frame.

    Raises ImageError: format_unsupported, mode_unsupported, multi_frame, image_too_many_pixels, image_too_small, image_corrupt.
    """
    load_pydicom()
    import pydicom

    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
        header = _checked(dataset, max_pixels)
        image = _frame(dataset, header, working_side, max_pixels, deadline)
        return image, header, _facts(dataset)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # pydicom raises many kinds on broken files
        raise ImageError("image_corrupt", f"The DICOM file cannot be decoded ({type(error).__name__}).") from error


def _checked(dataset: Any, max_pixels: int) -> Header:
    """Width, height and kind of the picture."""
    if "PixelData" not in dataset or "Rows" not in dataset or "Columns" not in dataset:
        raise ImageError("format_unsupported", "The DICOM file holds no picture.")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise ImageError("multi_frame", "The DICOM file has several frames. Send the one that is to be answered.")
    kind, samples = str(dataset.PhotometricInterpretation), int(dataset.SamplesPerPixel)
    if (kind, samples) not in {(name, 1) for name in _GREY} | {(name, 3) for name in _COLOUR}:
        raise ImageError("mode_unsupported", "The DICOM's pixels are neither MONOCHROME1 or 2, RGB nor YBR.")
    bits = int(dataset.BitsStored)
    if dataset.BitsAllocated not in (8, 16) or not 8 <= bits <= dataset.BitsAllocated or dataset.PixelRepresentation != 0:
        raise ImageError("mode_unsupported", "The DICOM's samples are not unsigned ones of 8 or 16 bits.")
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    way = "uncompressed" if syntax in _UNCOMPRESSED else "JPEG 2000" if syntax in _JPEG_2000 else "other"
    size = dataset.Rows * dataset.Columns * samples * dataset.BitsAllocated // 8
    # A JPEG's own header says what it takes; see `_frame`.
    memory = 0 if syntax in _JPEG else size * _BYTES_PER_SAMPLE[way]
    header = Header("DICOM", dataset.Columns, dataset.Rows, b"", memory, bits=bits, inverted=kind == "MONOCHROME1")
    require_decodable(header, max_pixels)
    return header


def _frame(dataset: Any, header: Header, working_side: int, max_pixels: int, deadline: float) -> Image.Image:
    """The picture, RGB, made smaller."""
    from pydicom.encaps import get_frame

    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if syntax in _JPEG:
        coded = get_frame(dataset.PixelData, 0, number_of_frames=1)
        inner = jpeg.read(_as_told(coded, str(dataset.PhotometricInterpretation)), working_side)
        require_decodable(inner, max_pixels)
        rgb = decode_pixels(inner, working_side, deadline)
        return ImageOps.invert(rgb) if header.inverted else rgb
    bits = header.bits
    if syntax in _JPEG_2000:
        image: Image.Image = Image.open(io.BytesIO(get_frame(dataset.PixelData, 0, number_of_frames=1)), formats=("JPEG2000",))
        if image.size != (header.width, header.height):
            raise ImageError("image_corrupt", "The DICOM file and the picture in it differ in size.")
        image.load()
        bits = 16 if image.mode.startswith("I;16") else 8  # which Pillow fills
        if image.mode == "RGB" and dataset.PhotometricInterpretation in _YBR:
            image = Image.merge("YCbCr", image.split())
    else:
        image, bits = _from_array(_array(dataset, syntax), bits, str(dataset.PhotometricInterpretation))
    sixteen = image.mode.startswith("I;16")
    rgb = to_rgb(image, shrink_factor(*image.size, working_side), bits, header.inverted and sixteen)
    return ImageOps.invert(rgb) if header.inverted and not sixteen else rgb


def _as_told(coded: bytes, photometric: str) -> bytes:
    """A JPEG that says itself what the DICOM header says of its colours."""
    before = coded[: coded.find(b"\xff\xda")]
    if photometric != "RGB" or _ADOBE.search(before) or b"JFIF" in before or not coded.startswith(jpeg.START):
        return coded
    return jpeg.START + _NO_TRANSFORM + coded[2:]


def _array(dataset: Any, syntax: str) -> np.ndarray:
    """Samples as stored, (H, W) or (H, W, 3)."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array

    if syntax not in _UNCOMPRESSED and not _is_native(syntax) and not get_decoder(syntax).is_available:
        raise ImageError(
            "format_unsupported", "The DICOM's transfer syntax is not read here. Send JPEG, RLE or uncompressed pixels."
        )
    return np.asarray(pixel_array(dataset, raw=True))


def _is_native(syntax: str) -> bool:
    from pydicom.uid import UID

    return not UID(syntax).is_compressed or UID(syntax).is_deflated


def _from_array(samples: np.ndarray, bits: int, photometric: str) -> tuple[Image.Image, int]:
    """(picture, bits that it uses)."""
    if samples.ndim == 2:
        if samples.dtype.itemsize == 1:
            return Image.fromarray(samples), 8
        return Image.fromarray(samples.astype(np.uint16)), bits
    if samples.dtype.itemsize > 1:
        samples = (np.minimum(samples, 2**bits - 1) >> (bits - 8)).astype(np.uint8)
    return Image.fromarray(samples, "YCbCr" if photometric in _YBR else "RGB"), bits


def _facts(dataset: Any) -> dict[str, Any]:
    """DICOM_FACTS. Of free text only the camera's model, cut and on one line."""
    side = str(dataset.get("ImageLaterality") or dataset.get("Laterality") or "")
    model = "".join(c if c.isprintable() else " " for c in str(dataset.get("ManufacturerModelName") or ""))
    height, width = _spacing(dataset.get("PixelSpacing"))
    return {
        "laterality": side if side in {"L", "R", "B"} else None,
        "device_model": " ".join(model.split())[:_MAX_MODEL] or None,
        "pixel_height_mm": height,
        "pixel_width_mm": width,
    }


def _spacing(values: Any) -> tuple[float | None, float | None]:
    try:
        height, width = (float(value) for value in values)
    except (TypeError, ValueError):
        return None, None
    sound = all(math.isfinite(value) and value > 0 for value in (height, width))
    return (height, width) if sound else (None, None)
