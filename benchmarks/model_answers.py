"""Answers of a model package to photos, plain and changed."""

import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance, ImageFilter

from model_code.classifier import Classifier
from model_code.preprocessing import find_disc
from model_code.settings import ServingSettings

Change = Callable[[Image.Image], Image.Image]


def load(package: Path) -> Classifier:
    """The package as a server would load it, for photos of any size."""
    return Classifier(package, "benchmark", replace(ServingSettings.from_env({}), max_image_bytes=2**31))


def validation_photos(folder: Path) -> pd.DataFrame:
    """The rows of the split `val` of `folder`/manifest.csv, with the file's bytes in `data`."""
    rows = pd.read_csv(folder / "manifest.csv")
    rows = rows[rows["split"] == "val"].reset_index(drop=True)
    return rows.assign(data=[(folder / "fundus" / path).read_bytes() for path in rows["path"]])


def answers(classifier: Classifier, photos: Iterable[bytes]) -> pd.DataFrame:
    """The answer rows for image files, in order."""
    with ThreadPoolExecutor(2) as executor:
        return pd.DataFrame(executor.map(lambda data: classifier.classify(data).answer, photos))


def changed(data: bytes, change: Change) -> bytes:
    """An image file decoded, changed and saved without loss."""
    return png(change(Image.open(io.BytesIO(data)).convert("RGB")))


def png(photo: Image.Image) -> bytes:
    """An image file."""
    buffer = io.BytesIO()
    photo.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def cut(share: float) -> Change:
    """`share` of the disc's height blackened at its top and at its bottom."""

    def change(photo: Image.Image) -> Image.Image:
        _, top, _, bottom = find_disc(photo)
        band = round(share * (bottom - top))
        pixels = np.array(photo)
        pixels[: top + band] = 0
        pixels[bottom - band :] = 0
        return Image.fromarray(pixels)

    return change


def masked(share: float) -> Change:
    """All blackened outside a circle of `share` of the disc's radius."""

    def change(photo: Image.Image) -> Image.Image:
        left, top, right, bottom = find_disc(photo)
        y, x = np.mgrid[: photo.height, : photo.width]
        radius = share * max(right - left, bottom - top) / 2
        inside = (x - (left + right) / 2) ** 2 + (y - (top + bottom) / 2) ** 2 <= radius**2
        return Image.fromarray(np.array(photo) * inside[..., None].astype(np.uint8))

    return change


def padded(photo: Image.Image) -> Image.Image:
    """A black border of a fifth of the photo's size all around."""
    wider = Image.new("RGB", (int(photo.width * 1.4), int(photo.height * 1.4)))
    wider.paste(photo, (int(photo.width * 0.2), int(photo.height * 0.2)))
    return wider


def recropped(photo: Image.Image) -> Image.Image:
    """Cropped into the disc by 4 % on each side."""
    left, top, right, bottom = find_disc(photo)
    step = round(0.04 * (right - left))
    return photo.crop((left + step, top + step, right - step, bottom - step))


def recompressed(quality: int) -> Change:
    """Through JPEG."""

    def change(photo: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        photo.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return change


def halved(photo: Image.Image) -> Image.Image:
    """Half as wide and high."""
    return photo.resize((photo.width // 2, photo.height // 2), Image.Resampling.LANCZOS)


def grey(photo: Image.Image) -> Image.Image:
    """Without colour."""
    return photo.convert("L").convert("RGB")


CHANGES: dict[str, Change] = {
    "7 % cut off at top and bottom": cut(0.07),
    "masked to 0.9 of the disc": masked(0.9),
    "padded with black": padded,
    "cropped 4 % into the disc": recropped,
    "JPEG quality 40": recompressed(40),
    "half the size": halved,
    "20 % brighter": lambda photo: ImageEnhance.Brightness(photo).enhance(1.2),
    "slightly blurred": lambda photo: photo.filter(ImageFilter.GaussianBlur(max(photo.size) / 400)),
    "grey": grey,
}
"""What must not change an answer (grey: what tells how much of it is colour)."""
