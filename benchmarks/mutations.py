"""Image files and requests, and what chance makes of them: the inputs of the fuzz campaigns."""

import base64
import io
import json
from typing import Any

import numpy as np
from PIL import Image

_HEADER = 512
"""Bytes at the start of a file where most changes are made; random changes of pixels find little."""


def seeds(photo: Image.Image) -> dict[str, bytes]:
    """A photo in every format, mode and compression that is read; 96 pixels a side."""
    small = photo.convert("RGB").resize((96, 96))
    grey = small.convert("L")
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    rgba = small.convert("RGBA")
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "JPEG": (small, "JPEG", {"exif": exif}),
        "JPEG progressive": (small, "JPEG", {"progressive": True}),
        "JPEG CMYK": (small.convert("CMYK"), "JPEG", {}),
        "JPEG grey": (grey, "JPEG", {}),
        "PNG": (small, "PNG", {"exif": exif, "icc_profile": b"none" * 50}),
        "PNG RGBA": (rgba, "PNG", {}),
        "PNG palette": (small.quantize(64), "PNG", {"transparency": 3}),
        "PNG 16 bit": (sixteen, "PNG", {}),
        "BMP": (small, "BMP", {}),
        "BMP palette": (small.quantize(64), "BMP", {}),
        "WEBP": (small, "WEBP", {"exif": exif}),
        "WEBP lossless": (rgba, "WEBP", {"lossless": True}),
        "TIFF": (small, "TIFF", {}),
        "TIFF 16 bit": (sixteen, "TIFF", {}),
        **{f"TIFF {name}": (small, "TIFF", {"compression": name}) for name in ("tiff_lzw", "tiff_deflate", "zstd", "jpeg")},
        **{f"TIFF {name}": (grey.convert("1"), "TIFF", {"compression": name}) for name in ("group3", "group4")},
        "TIFF RGBA": (rgba, "TIFF", {"compression": "packbits"}),
    }
    return {name: _encoded(*kind) for name, kind in kinds.items()}


def mutated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The file with one to four changes: bits, bytes, numbers, parts cut out, doubled, or taken from another file."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        if not changed:
            return b""
        at = int(rng.integers(min(len(changed), _HEADER) if rng.random() < 0.7 else len(changed)))
        length = int(rng.integers(1, 64))
        match int(rng.integers(7)):
            case 0:
                changed[at] ^= 1 << int(rng.integers(8))
            case 1:
                changed[at : at + length] = rng.bytes(length)
            case 2:  # a size, a count or an offset
                changed[at : at + 4] = int(rng.choice([0, 1, 255, 65_535, 2**31 - 1, 2**31, 2**32 - 1])).to_bytes(4)
            case 3:
                del changed[at : at + length]
            case 4:
                changed[at:at] = changed[at : at + length] * int(rng.integers(1, 50))
            case 5:
                changed[at:] = other[at:]
            case 6:
                del changed[at:]
    return bytes(changed)


def request(cells: list[Any], rng: np.random.Generator) -> tuple[bytes, bool]:
    """(a JSON request of these image cells in a random form, whether it is damaged, as every fifth)."""
    form = str(rng.choice(["dataframe_split", "dataframe_records", "inputs", "instances"]))
    rows = [{"image": cell, "image_id": str(i), "site": "x"} for i, cell in enumerate(cells)]
    table: Any = rows
    if form == "dataframe_split":
        table = {"columns": ["image"], "data": [[cell] for cell in cells]}
    elif form == "inputs":
        table = {"image": cells}
    params = [{}, {"explain": True}, {"strict": True}, {"strict": None}, {"unknown": 5}, {"explain": "yes"}]
    body = json.dumps({form: table, "params": params[int(rng.integers(len(params)))]}).encode()
    return (mutated(body, body, rng), True) if rng.random() < 0.2 else (body, False)


def odd_cell(photo: bytes, rng: np.random.Generator) -> Any:
    """What a client may put where a photo belongs."""
    text = base64.b64encode(photo).decode()
    odd = [
        text,
        text,
        text,
        f"data:image/png;base64,{text}",
        text[:-3],
        text.rstrip("="),
        "",
        None,
        5,
        [1],
        {"b64": text},
        "\ud800",
    ]
    return odd[int(rng.integers(len(odd)))]


def _encoded(image: Image.Image, file_format: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()
