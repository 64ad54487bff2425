import io

import numpy as np
import pytest
from PIL import Image

from eye_disease.training.reencode import QUALITIES, SIDES, encoded, reencoded
from model_code.decode import FORMATS, decode
from model_code.preprocessing import Recipe, prepare
from tests.support.photos import fundus

RECIPE = Recipe(96)


def _view(data: bytes) -> np.ndarray:
    return prepare(decode(data, RECIPE.working_side, 10**8).image, RECIPE).astype(float)


@pytest.mark.parametrize(("side", "file_format"), [(300, "JPEG"), (900, "WEBP"), (300, "PNG"), (640, "TIFF"), (512, "BMP")])
def test_a_photo_is_saved_as_asked_and_stays_the_same_picture(side: int, file_format: str) -> None:
    photo = fundus(512)
    data = encoded(photo, side, file_format)
    assert file_format in FORMATS
    saved = Image.open(io.BytesIO(data))
    assert (saved.format, max(saved.size)) == (file_format, side)
    assert np.abs(_view(data) - _view(encoded(photo, 512, "PNG"))).mean() < 3


def test_a_lower_quality_makes_a_smaller_file() -> None:
    for file_format in ("JPEG", "WEBP"):
        low, high = (len(encoded(fundus(400), 400, file_format, quality)) for quality in QUALITIES)
        assert low < 0.8 * high


def test_copies_are_drawn_from_many_ways_and_are_the_same_with_the_same_numbers() -> None:
    photo = fundus(400)
    copies = [reencoded(photo, np.random.default_rng(seed)) for seed in range(30)]
    images = [Image.open(io.BytesIO(data)) for data in copies]
    assert {image.format for image in images} == {"JPEG", "WEBP", "PNG"}
    sides = [max(image.size) for image in images]
    assert SIDES[0] <= min(sides) < 500
    assert 900 < max(sides) <= SIDES[1]
    assert copies[3] == reencoded(photo, np.random.default_rng(3))
