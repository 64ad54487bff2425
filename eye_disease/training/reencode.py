"""The same photo as another program would have saved it: other sizes, formats and qualities."""

import io
from typing import Any

import numpy as np
from PIL import Image

SIDES = (300, 1200)
"""Longer side of a re-encoded photo, pixels. Larger files are reduced to the same view: beyond it nothing changes."""
QUALITIES = (60, 95)
"""Of JPEG and WebP"""
_FORMATS = ("JPEG", "JPEG", "JPEG", "WEBP", "PNG")
"""As often as each stands here"""
_FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


def encoded(
    photo: Image.Image, side: int, file_format: str, quality: int = 90, resample: Image.Resampling = _FILTERS[2]
) -> bytes:
    """An RGB photo of any size saved with `side` pixels on its longer side; TIFF with LZW, PNG without loss."""
    scale = side / max(photo.size)
    if scale != 1:
        photo = photo.resize((max(1, round(photo.width * scale)), max(1, round(photo.height * scale))), resample)
    lossy: dict[str, Any] = {"quality": quality}
    options = {"JPEG": lossy, "WEBP": lossy, "TIFF": {"compression": "tiff_lzw"}}
    buffer = io.BytesIO()
    photo.save(buffer, file_format, **options.get(file_format, {"compress_level": 1}))
    return buffer.getvalue()


def reencoded(photo: Image.Image, rng: np.random.Generator) -> bytes:
    """An RGB photo saved in a way drawn at random from the above."""
    side = round(float(np.exp(rng.uniform(*np.log(SIDES)))))
    return encoded(
        photo, side, str(rng.choice(_FORMATS)), int(rng.integers(QUALITIES[0], QUALITIES[1] + 1)), _FILTERS[rng.integers(3)]
    )
