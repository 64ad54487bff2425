"""Features of a photo that are not of the eye: its file, its frame, its colours."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from eye_disease.evaluation.duplicates import Fingerprint
from model_code.decode import decode
from model_code.errors import ImageError
from model_code.preprocessing import Recipe, disc_square, field_of_view, find_disc

RECIPE = Recipe(224)
MAX_PIXELS = 100_000_000
THUMBNAIL = 112
"""Side of the small picture that the page shows, pixels."""
_DARK = 14
"""Brightness at or below which a pixel belongs to the camera's frame."""
_RASTER = 28


@dataclass(frozen=True)
class Look:
    """One photo, apart from what a physician would look at."""

    file_sha256: str
    fingerprint: Fingerprint
    thumbnail: bytes
    """JPEG, THUMBNAIL pixels a side, of the disc alone."""
    features: dict[str, np.ndarray]
    """Group of features -> float32 (K,); see `FEATURES`."""


FEATURES = {
    "size": "width, height and their ratio",
    "compression": "bytes, bytes a pixel, JPEG's quantisation, the excess on the borders of its 8 x 8 blocks",
    "position": "where the disc lies in the photo, and how much of the photo it fills",
    "frame": "the silhouette of the lit disc, which the camera's frame cuts",
    "colour": "mean and deviation of red, green and blue inside the disc",
    "grain": "deviation of the Laplacian of red, green and blue inside the disc",
}
"""Group of features -> what it holds. None of them shows a vessel, a lesion or an optic disc."""


def look_at(path: Path) -> Look | str:
    """What there is to see in a photo's file, or why it cannot be read, a sentence."""
    try:
        data = path.read_bytes()
        photo = decode(data, RECIPE.working_side, MAX_PIXELS)
    except (ImageError, OSError) as error:
        return str(error) if isinstance(error, ImageError) else f"The file cannot be read ({error.strerror})."
    square = np.asarray(disc_square(photo.image, RECIPE))
    small = io.BytesIO()
    Image.fromarray(square).resize((THUMBNAIL, THUMBNAIL)).save(small, "JPEG", quality=80)
    pixels = np.asarray(photo.image)
    left, top, right, bottom = find_disc(photo.image)
    height, width = pixels.shape[:2]
    features = {
        "size": [photo.width, photo.height, photo.width / photo.height],
        "compression": [len(data), len(data) / (photo.width * photo.height), _quantisation(data), _block_edges(pixels)],
        "position": [left / width, top / height, right / width, bottom / height, (right - left) / (bottom - top)],
        "frame": _silhouette(square),
        "colour": _colour(square),
        "grain": _grain(square),
    }
    return Look(
        hashlib.sha256(data).hexdigest(),
        Fingerprint.of(square),
        small.getvalue(),
        {name: np.asarray(values, np.float32) for name, values in features.items()},
    )


def _quantisation(data: bytes) -> float:
    """Mean of a JPEG's first quantisation table, which falls as its quality rises; 0 for other formats."""
    with Image.open(io.BytesIO(data)) as image:
        tables = getattr(image, "quantization", None) or {0: [0]}
    return float(np.mean(tables[min(tables)]))


def _block_edges(pixels: np.ndarray) -> float:
    """How much larger the steps between columns are at the borders of 8 x 8 blocks than elsewhere; 1: not at all."""
    steps = np.abs(np.diff(pixels.astype(np.float32).mean(axis=2), axis=1)).mean(axis=0)
    by_offset = [steps[offset::8].mean() for offset in range(8)]
    return float(max(by_offset) / max(float(np.mean(by_offset)), 1e-6))


def _silhouette(square: np.ndarray) -> np.ndarray:
    """float32 (_RASTER ** 2,): 1 where the raster is lit."""
    lit = Image.fromarray((square.max(axis=2) > _DARK).astype(np.uint8) * 255)
    return np.asarray(lit.resize((_RASTER, _RASTER), Image.Resampling.BOX), np.float32).ravel() / 255


def _colour(square: np.ndarray) -> np.ndarray:
    inside = square[_inner(len(square))]
    return np.concatenate([inside.mean(axis=0), inside.std(axis=0)])


def _grain(square: np.ndarray) -> np.ndarray:
    light = square.astype(np.float32)
    laplacian = 4 * light[1:-1, 1:-1] - light[:-2, 1:-1] - light[2:, 1:-1] - light[1:-1, :-2] - light[1:-1, 2:]
    return np.asarray(laplacian[_inner(len(square))[1:-1, 1:-1]].std(axis=0))


def _inner(side: int) -> np.ndarray:
    """bool (side, side): the middle of the disc, which no camera's frame cuts."""
    width = int(0.7 * side) // 2 * 2
    mask = np.zeros((side, side), bool)
    start = (side - width) // 2
    mask[start : start + width, start : start + width] = field_of_view(width).astype(bool)
    return mask
