import io

import numpy as np
import pytest
from PIL import Image

from model_code.heatmap import class_activation, overlay_png
from model_code.package import LITERT_FILE, ModelFacts, Statistics
from model_code.preprocessing import field_of_view, prepare, scale
from model_code.runtime import LiteRTRuntime
from tests.support.photos import PACKAGE, SAMPLES, fundus

GREY = np.full((224, 224, 3), 100, np.uint8) * field_of_view(224)[..., None]


def _picture(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def test_the_activation_is_each_places_share_of_the_logit() -> None:
    feature_map = np.float32([[[1, 0], [0, 1]], [[2, 2], [0, 0]]])
    assert class_activation(feature_map, np.float32([3, -1])).tolist() == [[3, -1], [4, 0]]


def test_the_mean_of_the_map_and_the_bias_are_the_logit_of_the_bundled_model(retina: bytes) -> None:
    recipe, weights = ModelFacts.load(PACKAGE).recipe, Statistics.load(PACKAGE).class_weights
    assert weights is not None
    photos = [Image.open(io.BytesIO(retina)), *(Image.open(path) for path in sorted(SAMPLES.glob("*.jpg"))), fundus(300, 3)]
    biases = []
    with LiteRTRuntime(PACKAGE / LITERT_FILE, threads=1).session() as infer:
        for photo in photos:
            outputs = infer(scale(prepare(photo.convert("RGB"), recipe), recipe))
            means = class_activation(outputs["feature_map"], weights).mean(axis=(0, 1))
            assert np.ptp(means) > 0.1
            biases.append(outputs["output"] - means)
    # What is left of the logit is the same for every photo: the bias.
    assert np.ptp(biases, axis=0) == pytest.approx(0, abs=1e-4)


def test_the_warmest_place_is_red_and_cold_places_keep_the_photo() -> None:
    activation = np.full((7, 7), -5.0, np.float32)
    activation[2, 4] = 3.0
    picture = _picture(overlay_png(GREY, activation))
    warm = picture[2 * 32 + 16, 4 * 32 + 16]
    assert picture.shape == (224, 224, 3)
    assert warm == pytest.approx((177, 50, 50), abs=6)
    assert (picture[150:180, 60:90] == 100).all()


def test_lukewarm_places_are_yellow() -> None:
    activation = np.tile(np.float32([0, 0, 0.02, 1, 1, 1, 1]), (7, 1))
    red, green, blue = _picture(overlay_png(np.full((224, 224, 3), 100, np.uint8), activation, opacity=1.0))[112, 80]
    assert red >= 100
    assert green > blue


def test_nothing_is_laid_over_the_black_surround() -> None:
    picture = _picture(overlay_png(GREY, np.ones((7, 7), np.float32)))
    assert not picture[field_of_view(224) == 0].any()
    assert (picture[112, 112] != 100).any()


@pytest.mark.parametrize("level", [0.0, -3.0])
def test_a_map_without_support_leaves_the_photo_as_it_is(level: float) -> None:
    assert (_picture(overlay_png(GREY, np.full((7, 7), level, np.float32))) == GREY).all()


def test_the_scale_of_the_map_does_not_matter() -> None:
    activation = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    assert (_picture(overlay_png(GREY, activation)) == _picture(overlay_png(GREY, activation * 64))).all()


def test_no_opacity_leaves_the_photo_as_it_is() -> None:
    assert (_picture(overlay_png(GREY, np.ones((7, 7), np.float32), opacity=0.0)) == GREY).all()
