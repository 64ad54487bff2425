"""The one preprocessing function: training, registration and serving all call `prepare`.

Fundus photos: crop to the retinal disc, pad to a square, resize, and keep one common circular field of view. The circle
matters: the silhouette of the camera's frame alone gives the data source, and so the class, away.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops

from model_code.model_error import ModelError

CROPS = ("fundus", "none")
SCALINGS = ("none", "unit", "tf", "torch", "caffe")
RESIZES = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
FIELD_OF_VIEW_RADIUS = 0.46
"""Radius of the common field of view, as a share of the view's side."""


@dataclass(frozen=True)
class Recipe:
    """How a photo becomes the network's input; kept in `model.json`.

    Raises ModelError for a value outside CROPS, SCALINGS, RESIZES or a size under 32.
    """

    input_size: int
    """Side of the network's square input, pixels."""
    crop: str = "fundus"
    """`fundus`: disc, square, circle. `none`: the whole photo, stretched."""
    scaling: str = "none"
    """`none`: 0..255. `unit`: 0..1. `tf`: -1..1. `torch`: ImageNet mean and deviation. `caffe`: BGR less the ImageNet mean."""
    resize: str = "bilinear"
    """Resampling filter (Pillow's, which averages when it shrinks)."""

    def __post_init__(self) -> None:
        for name, allowed in (("crop", CROPS), ("scaling", SCALINGS), ("resize", tuple(RESIZES))):
            if getattr(self, name) not in allowed:
                raise ModelError(f"{name}={getattr(self, name)!r} is not known. Expected one of {', '.join(allowed)}.")
        if self.input_size < 32:
            raise ModelError(f"input_size={self.input_size} is too small. Expected 32 pixels or more.")

    @property
    def working_side(self) -> int:
        """Pixels a side to decode: twice the input, so that a disc half as wide as its photo still has its pixels."""
        return 2 * self.input_size


def prepare(photo: Image.Image, recipe: Recipe) -> np.ndarray:
    """RGB photo of any size -> uint8 (S, S, 3) RGB, the view that the network and the image statistics see."""
    size = recipe.input_size
    if recipe.crop == "none":
        return np.asarray(photo.resize((size, size), RESIZES[recipe.resize]))
    return np.asarray(np.asarray(disc_square(photo, recipe)) * _rgb_field_of_view(size))


def disc_square(photo: Image.Image, recipe: Recipe) -> Image.Image:
    """RGB photo of any size -> its whole retinal disc in a black square, RGB, `recipe.input_size` pixels a side."""
    side = recipe.input_size
    disc = find_disc(photo)
    width, height = disc[2] - disc[0], disc[3] - disc[1]
    shrink = side / max(width, height)
    width, height = max(1, round(width * shrink)), max(1, round(height * shrink))
    square = Image.new("RGB", (side, side))
    square.paste(photo.resize((width, height), RESIZES[recipe.resize], box=disc), ((side - width) // 2, (side - height) // 2))
    return square


def scale(view: np.ndarray, recipe: Recipe) -> np.ndarray:
    """uint8 (S, S, 3) view -> float32 (1, S, S, 3), the range the network was trained on.

    The ranges are those of `keras.applications.imagenet_utils.preprocess_input`.
    """
    x = view[None].astype(np.float32)
    if recipe.scaling == "unit":
        return x / np.float32(255)
    if recipe.scaling == "tf":
        return x / np.float32(127.5) - np.float32(1)
    if recipe.scaling == "torch":
        mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)
        return np.asarray((x / np.float32(255) - mean) / deviation)
    if recipe.scaling == "caffe":
        return np.asarray(x[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32))
    return x


def find_disc(photo: Image.Image) -> tuple[int, int, int, int]:
    """Bounding box (left, top, right, bottom) of the lit retina in an RGB photo; the whole photo if all is dark.

    A row or column belongs to it when more than 4 % of its pixels are brighter than max(14, 8 % of the 99th percentile).
    """
    red, green, blue = photo.split()
    brightness = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    counts = np.cumsum(brightness.histogram())
    percentile_99 = int(np.searchsorted(counts, 0.99 * counts[-1]))
    lit = np.asarray(brightness) > max(14, int(0.08 * percentile_99))
    rows = np.flatnonzero(lit.sum(axis=1, dtype=np.uint32) > 0.04 * photo.width)
    columns = np.flatnonzero(lit.sum(axis=0, dtype=np.uint32) > 0.04 * photo.height)
    if rows.size == 0 or columns.size == 0:
        return 0, 0, photo.width, photo.height
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@lru_cache(maxsize=8)
def field_of_view(size: int) -> np.ndarray:
    """uint8 (size, size): 1 inside the common circle, 0 outside."""
    axis = np.arange(size) - (size - 1) / 2
    inside = axis[:, None] ** 2 + axis[None, :] ** 2 <= (FIELD_OF_VIEW_RADIUS * size) ** 2
    mask = inside.astype(np.uint8)
    mask.setflags(write=False)
    return mask


@lru_cache(maxsize=8)
def _rgb_field_of_view(size: int) -> np.ndarray:
    return np.repeat(field_of_view(size)[..., None], 3, axis=2)
