"""Fundus photos made ungradable: what the gradability score is fitted on."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

Degradation = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""A disc square, uint8 (S, S, 3), and random numbers -> a square of the same shape"""


def blurred(square: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Out of focus: Gaussian of 1/60 to 1/25 of the side."""
    radius = len(square) / rng.uniform(25, 60)
    return np.asarray(Image.fromarray(square).filter(ImageFilter.GaussianBlur(radius)))


def darkened(square: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Under-exposed to 8..25 % of the light, with the sensor's noise."""
    light = square * rng.uniform(0.08, 0.25) + rng.normal(0, 2, square.shape) * (square.max(axis=2, keepdims=True) > 14)
    return np.asarray(light.clip(0, 255).astype(np.uint8))


def overexposed(square: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two and a half to five times the light."""
    return (square * rng.uniform(2.5, 5)).clip(0, 255).astype(np.uint8)


def hazed(square: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Behind a bright veil that leaves 10..25 % of the contrast."""
    lit = square.max(axis=2, keepdims=True) > 14
    veil = np.array([rng.uniform(110, 200), rng.uniform(90, 180), rng.uniform(70, 180)])
    left = rng.uniform(0.1, 0.25)
    return np.where(lit, square * left + veil * (1 - left), square).clip(0, 255).astype(np.uint8)


def occluded(square: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A lid, lashes or the pupil's edge over 45..75 % of the disc: flat, dark or bright, with a soft edge."""
    side = len(square)
    angle, share = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 0.75)
    axis = np.linspace(-1, 1, side)
    distance = np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None]
    cover = 1 / (1 + np.exp(-(distance - np.quantile(distance, 1 - share)) * rng.uniform(10, 80)))
    colour = rng.uniform(0, 60, 3) if rng.random() < 0.6 else rng.uniform(100, 220, 3)
    lit = square.max(axis=2, keepdims=True) > 14
    covered = square * (1 - cover[..., None]) + colour * cover[..., None]
    return np.where(lit, covered, square).astype(np.uint8)


def cropped(square: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A quarter to two fifths of the side, enlarged: a detail taken for the whole."""
    side = len(square)
    part = int(side * rng.uniform(0.25, 0.4))
    left, top = rng.integers(side // 6, side - side // 6 - part, 2)
    detail = Image.fromarray(square[top : top + part, left : left + part])
    return np.asarray(detail.resize((side, side), Image.Resampling.BICUBIC))


DEGRADATIONS: dict[str, Degradation] = {
    function.__name__: function for function in (blurred, darkened, overexposed, hazed, occluded, cropped)
}
"""Every way, by name"""

HAZE = hazed.__name__
RUINING = tuple(name for name in DEGRADATIONS if name != HAZE)
"""The ways that a new photo would mend. Haze is not among them: it may be a cataract, which stays in every photo."""
