import numpy as np
import pytest

from model_code.preprocessing import field_of_view
from model_code.quality import STATISTICS, image_statistics

SIZE = 64
EVERYWHERE = np.ones((SIZE, SIZE), np.uint8)
CIRCLE = field_of_view(SIZE)


def _grey(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels.astype(np.uint8)[..., None], 3, axis=2)


def test_a_uniform_view_has_its_colour_and_no_contrast() -> None:
    view = np.full((SIZE, SIZE, 3), (100, 50, 20), np.uint8)
    statistics = image_statistics(view, CIRCLE)
    assert tuple(statistics) == STATISTICS
    assert statistics == pytest.approx(
        {
            "brightness": 0.299 * 100 + 0.587 * 50 + 0.114 * 20,
            "contrast": 0,
            "sharpness": 0,
            "red": 100,
            "green": 50,
            "blue": 20,
            "field_of_view_share": 1,
        },
        abs=1e-3,
    )


def test_contrast_is_the_standard_deviation_of_grey() -> None:
    halves = np.full((SIZE, SIZE), 50)
    halves[:, SIZE // 2 :] = 150
    statistics = image_statistics(_grey(halves), EVERYWHERE)
    assert statistics["brightness"] == pytest.approx(100, abs=1e-3)
    assert statistics["contrast"] == pytest.approx(50, abs=1e-3)


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    pixels = np.full((SIZE, SIZE), 100)
    pixels[30, 30] = 110
    # One pixel of -40, its four neighbours of +10, all others 0; 62 x 62 pixels have four neighbours.
    expected = (40**2 + 4 * 10**2) / 62**2
    assert image_statistics(_grey(pixels), EVERYWHERE)["sharpness"] == pytest.approx(expected, rel=1e-3)


def test_the_lit_share_counts_pixels_above_darkness() -> None:
    pixels = np.full((SIZE, SIZE), 14)
    pixels[: SIZE // 4] = 16
    assert image_statistics(_grey(pixels), EVERYWHERE)["field_of_view_share"] == pytest.approx(0.25, abs=1e-5)


def test_what_lies_outside_the_mask_does_not_count() -> None:
    rng = np.random.default_rng(0)
    view = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    other = view.copy()
    other[CIRCLE == 0] = 255
    assert image_statistics(view, CIRCLE) == image_statistics(other, CIRCLE)


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("level", [0, 255, None], ids=["black", "white", "noise"])
def test_statistics_are_always_finite_and_in_range(level: int | None, size: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    view = noise if level is None else np.full((size, size, 3), level, np.uint8)
    statistics = image_statistics(view, field_of_view(size))
    assert all(type(value) is float and np.isfinite(value) and value >= 0 for value in statistics.values())
    assert all(statistics[name] <= 255.1 for name in ("brightness", "red", "green", "blue", "contrast"))
    assert statistics["field_of_view_share"] <= 1.0001
