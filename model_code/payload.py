"""One cell of the request's `image` column -> the bytes of the image file."""

import base64
import binascii
from typing import Any

import pandas as pd

from model_code.errors import ImageError

_NULL_TEXTS = {"None", "nan"}
"""What a null becomes on its way through MLflow's `inputs` and `instances`, which make columns of text by NumPy."""


def is_null(cell: Any) -> bool:
    """Whether a cell of a text column is null, in any of the ways the payload forms leave one."""
    return cell in _NULL_TEXTS if isinstance(cell, str) else bool(pd.api.types.is_scalar(cell) and pd.isna(cell))


def image_bytes(cell: Any, max_bytes: int) -> bytes:
    """The image file in a cell: base64 text (with or without a `data:` prefix) or raw bytes.

    Raises ImageError: image_missing, image_type, image_empty, base64_invalid, image_too_many_bytes.
    """
    if isinstance(cell, (bytes, bytearray, memoryview)):
        data = bytes(cell)
    elif is_null(cell):
        raise ImageError("image_missing", "The image is null. Expected base64 text or the bytes of an image file.")
    elif isinstance(cell, dict) or (isinstance(cell, str) and cell.startswith("{")):
        raise ImageError(
            "image_type", 'The image is an object, as {"b64": ...}. Expected its base64 text alone: {"image": "<base64 text>"}.'
        )
    elif isinstance(cell, str):
        data = _from_base64(cell, max_bytes)
    else:
        raise ImageError(
            "image_type", f"The image is of type {type(cell).__name__}. Expected base64 text or the bytes of an image file."
        )
    if not data:
        raise ImageError("image_empty", "The image holds 0 bytes. Expected the bytes of an image file.")
    _check_size(len(data), max_bytes)
    return data


def _from_base64(text: str, max_bytes: int) -> bytes:
    """Also URL-safe, without padding, in quotes, or as Python shows bytes: b'...'."""
    text = text.strip()
    if text[:2] in ("b'", 'b"'):
        text = text[1:]
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1].strip()
    if text[:5].lower() == "data:":
        header, comma, text = text.partition(",")
        if not comma or not header.lower().endswith(";base64"):
            raise ImageError("base64_invalid", "The data URI is not base64. Expected data:image/...;base64,<text>.")
    text = "".join(text.split()).replace("-", "+").replace("_", "/")
    _check_size(len(text) // 4 * 3 - 2, max_bytes)
    padding = "" if "=" in text else "=" * (-len(text) % 4)
    try:
        data = base64.b64decode(text + padding, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError("base64_invalid", f"The text is not base64 ({error}). Send the image file base64-encoded.") from None
    if padding and base64.b64encode(data[-(len(data) % 3) :]).decode() != text[-(len(text) % 4) :] + padding:
        raise ImageError("base64_invalid", "The base64 text is cut off: bits are left over at its end.")
    return data


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ImageError(
            "image_too_many_bytes",
            f"The image has {size:,} bytes, the limit is {max_bytes:,}. Send a smaller file or raise MAX_IMAGE_BYTES.",
        )
