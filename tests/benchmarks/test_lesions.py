import numpy as np
import pytest
from PIL import Image
from scipy.stats import binom

from benchmarks.lesions import KINDS, Photo, at_least, hits_table, in_view, told_apart
from model_code.preprocessing import Recipe, field_of_view, prepare
from tests.support.photos import fundus


@pytest.mark.parametrize(("width", "height", "place"), [(300, 300, (150, 110)), (420, 300, (190, 130)), (300, 380, (120, 240))])
def test_a_mask_goes_where_its_photo_goes(width: int, height: int, place: tuple[int, int]) -> None:
    """A white spot in a photo with margins of its own, and a mask of it at half the size."""
    photo = Image.new("RGB", (width, height))
    photo.paste(fundus(260), ((width - 260) // 2, (height - 260) // 2))
    pixels, mask = np.array(photo) // 2, np.zeros((height // 2, width // 2), np.uint8)
    x, y = place
    pixels[y - 6 : y + 6, x - 6 : x + 6] = 255
    mask[y // 2 - 3 : y // 2 + 3, x // 2 - 3 : x // 2 + 3] = 4
    photo = Image.fromarray(pixels)
    moved = in_view(mask, photo, 128)
    assert set(np.unique(moved)) == {0, 4}
    bright = prepare(photo, Recipe(128)).min(axis=2) > 150
    for lit in (bright, moved > 0):
        assert lit.any()
    centres = [np.argwhere(lit).mean(axis=0) for lit in (bright, moved > 0)]
    assert centres[0] == pytest.approx(centres[1], abs=1.5)


def _photo(lesion: tuple[int, int], peak: tuple[int, int], bits: int = 1) -> Photo:
    """A view of 64 pixels with a lesion at (row, column), and a map of 8 x 8 places."""
    lesions, activation = np.zeros((64, 64), np.uint8), np.zeros((8, 8), np.float32)
    lesions[lesion], activation[peak] = bits, 1
    return Photo(activation, lesions)


def test_a_lesion_within_half_a_place_is_hit_and_one_further_is_not() -> None:
    """The middle of place (3, 4) is pixel (28, 36)."""
    assert _photo((28, 36), (3, 4)).hit((3, 4), 1)
    assert _photo((25, 39), (3, 4)).hit((3, 4), 1)
    assert not _photo((28, 42), (3, 4)).hit((3, 4), 1)
    assert not _photo((28, 36), (3, 4), bits=2).hit((3, 4), 1), "of another kind"
    one = _photo((28, 36), (3, 4))
    assert one.by_area(1) == pytest.approx(64 / field_of_view(64).sum(), abs=0.005)


def test_maps_that_point_at_lesions_are_told_from_maps_that_do_not() -> None:
    rng = np.random.default_rng(0)
    places = [(int(row), int(column)) for row, column in rng.integers(2, 6, (30, 2))]
    seeing = [_photo((row * 8 + 4, column * 8 + 4), (row, column)) for row, column in places]
    blind = [_photo((row * 8 + 4, column * 8 + 4), places[(i + 1) % 30]) for i, (row, column) in enumerate(places)]
    rows = [line.split("|") for line in hits_table(seeing).splitlines()]
    assert [cell.strip() for cell in rows[2][1:4]] == ["any", "30", "1.000"]
    assert float(rows[2][6]) < 1e-20
    assert float(hits_table(blind).splitlines()[2].split("|")[6]) > 0.01
    assert told_apart(seeing) == 1.0 > told_apart(blind)
    assert len(KINDS) == 4


def test_the_chance_of_many_hits_is_the_binomial_where_all_chances_are_alike() -> None:
    assert at_least(7, [0.3] * 12) == pytest.approx(binom.sf(6, 12, 0.3))
    assert at_least(0, [0.5, 0.1]) == 1
    assert at_least(2, [0.5, 0.1]) == pytest.approx(0.05)
