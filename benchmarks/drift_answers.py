"""Answers of the bundled model on real photos, as they are and degraded: the populations that windows are drawn from."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image, ImageEnhance, ImageFilter

from eye_disease.common.paths import BUNDLED_PACKAGE
from model_code.classifier import Classifier
from model_code.settings import ServingSettings

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
NOT_FUNDUS = ("not_a_fundus_cat.jpg", "not_a_fundus_coffee.jpg")
_DARK = 14
_QUALITY = 92

Degrade = Callable[[Image.Image, float], Image.Image]


@dataclass(frozen=True)
class Degradation:
    """One way in which photos go bad, at one strength."""

    kind: str
    strength: str
    """As the report shows it"""
    apply: Degrade
    amount: float
    quality: int = _QUALITY
    """JPEG quality of what is sent"""


def blur(photo: Image.Image, pixels: float) -> Image.Image:
    return photo.filter(ImageFilter.GaussianBlur(pixels * max(photo.size) / 400))


def haze(photo: Image.Image, share: float) -> Image.Image:
    """A grey veil over the retina, as a cataract or a dirty lens gives; the black frame stays."""
    pixels = np.asarray(photo, np.float64)
    veiled = pixels * (1 - share) + 200 * share
    return Image.fromarray(np.where(pixels.max(axis=2, keepdims=True) > _DARK, veiled, pixels).astype(np.uint8))


def darken(photo: Image.Image, share: float) -> Image.Image:
    return ImageEnhance.Brightness(photo).enhance(1 - share)


def colour_cast(photo: Image.Image, share: float) -> Image.Image:
    pixels = np.asarray(photo, np.float64) * np.array([1 + share, 1, 1 - share])
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def wrong_crop(photo: Image.Image, share: float) -> Image.Image:
    """The upper left part is missing."""
    left, top = int(photo.width * share), int(photo.height * share)
    return photo.crop((left, top, photo.width, photo.height))


def unchanged(photo: Image.Image, _: float) -> Image.Image:
    return photo


DEGRADATIONS = (
    Degradation("blur", "1.5 px of 400", blur, 1.5),
    Degradation("blur", "4 px of 400", blur, 4),
    Degradation("haze", "20 %", haze, 0.20),
    Degradation("haze", "45 %", haze, 0.45),
    Degradation("dark", "30 %", darken, 0.30),
    Degradation("dark", "60 %", darken, 0.60),
    Degradation("colour cast", "12 %", colour_cast, 0.12),
    Degradation("colour cast", "35 %", colour_cast, 0.35),
    Degradation("wrong crop", "10 %", wrong_crop, 0.10),
    Degradation("wrong crop", "30 %", wrong_crop, 0.30),
    Degradation("JPEG", "quality 30", unchanged, 0, quality=30),
)


class Photographer:
    """Scores photos with the bundled model."""

    def __init__(self) -> None:
        settings = replace(ServingSettings.from_env({}), inference_threads=1)
        self._classifier = Classifier(BUNDLED_PACKAGE, "bundled", settings)
        self.classes = self._classifier.facts.classes

    def score(self, photos: Sequence[bytes]) -> pa.Table:
        """Records of the photos, in order."""
        answered = [self._classifier.classify(photo) for photo in photos]
        return pa.Table.from_pandas(pd.DataFrame([one.answer | one.facts for one in answered]), preserve_index=False)

    def score_degraded(self, photos: Sequence[bytes], how: Degradation) -> pa.Table:
        """Records of the photos, each degraded."""
        return self.score([degraded(photo, how) for photo in photos])

    def score_not_fundus(self, count: int, seed: int = 0) -> pa.Table:
        """Records of random cut-outs of the sample pictures that show no retina."""
        rng = np.random.default_rng(seed)
        pictures = [_opened((SAMPLES / name).read_bytes()) for name in NOT_FUNDUS]
        cut = []
        for i in range(count):
            picture = pictures[i % len(pictures)]
            side = int(min(picture.size) * rng.uniform(0.4, 1))
            left, top = (int(rng.integers(0, extent - side + 1)) for extent in picture.size)
            cut.append(_encoded(picture.crop((left, top, left + side, top + side)), _QUALITY))
        return self.score(cut)


def degraded(photo: bytes, how: Degradation) -> bytes:
    """A JPEG of the photo, as it would have come."""
    return _encoded(how.apply(_opened(photo), how.amount), how.quality)


def read_photos(folder: Path, split: str | None = None) -> tuple[list[bytes], np.ndarray]:
    """Photos of `manifest.csv` in a folder, with their labels. Raises FileNotFoundError if there is none."""
    rows = pd.read_csv(folder / "manifest.csv")
    rows = rows if split is None else rows[rows["split"] == split]
    return [(folder / "fundus" / path).read_bytes() for path in rows["path"]], rows["label"].to_numpy(dtype=object)


def _opened(photo: bytes) -> Image.Image:
    return Image.open(io.BytesIO(photo)).convert("RGB")


def _encoded(photo: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
