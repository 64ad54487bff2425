from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from model_code.decode import decode
from model_code.preprocessing import (
    CROPS,
    FIELD_OF_VIEW_RADIUS,
    RESIZES,
    SCALINGS,
    Recipe,
    disc_square,
    field_of_view,
    find_disc,
    prepare,
    scale,
)
from tests.support.photos import fundus

RECIPE = Recipe(224)


def _disc(size: tuple[int, int], centre: tuple[int, int], radius: int, colour: tuple[int, int, int]) -> Image.Image:
    photo = Image.new("RGB", size)
    x, y = centre
    ImageDraw.Draw(photo).ellipse((x - radius, y - radius, x + radius - 1, y + radius - 1), fill=colour)
    return photo


def _padded(photo: Image.Image, left: int, top: int, right: int, bottom: int) -> Image.Image:
    wider = Image.new("RGB", (photo.width + left + right, photo.height + top + bottom))
    wider.paste(photo, (left, top))
    return wider


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.float32) - b.astype(np.float32)).mean())


@pytest.mark.parametrize(
    ("size", "centre", "radius"),
    [
        ((400, 400), (200, 200), 180),
        ((600, 400), (300, 200), 190),
        ((400, 600), (200, 300), 150),
        ((400, 400), (120, 280), 100),
        ((400, 400), (300, 110), 90),
        ((1000, 400), (700, 200), 150),
        ((400, 400), (100, 100), 60),
    ],
)
@pytest.mark.parametrize("colour", [(200, 100, 50), (40, 20, 10), (20, 20, 20), (0, 0, 120)])
def test_the_disc_is_found_wherever_it_lies(
    size: tuple[int, int], centre: tuple[int, int], radius: int, colour: tuple[int, int, int]
) -> None:
    expected = (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius)
    # The rule needs 4 % of a line to be lit, so the tips of the disc are cut by a pixel or two.
    assert find_disc(_disc(size, centre, radius, colour)) == pytest.approx(expected, abs=3)


@pytest.mark.parametrize(("size", "centre"), [((300, 400), (150, 200)), ((400, 300), (200, 150))])
def test_a_disc_cut_by_the_frame_is_found_up_to_the_frame(size: tuple[int, int], centre: tuple[int, int]) -> None:
    left, top, right, bottom = find_disc(_disc(size, centre, 190, (200, 100, 50)))
    assert (right - left, bottom - top) == pytest.approx((min(380, size[0]), min(380, size[1])), abs=8)


@pytest.mark.parametrize("colour", [(0, 0, 0), (14, 14, 14), (3, 9, 1)])
def test_a_dark_photo_is_taken_whole(colour: tuple[int, int, int]) -> None:
    assert find_disc(Image.new("RGB", (300, 200), colour)) == (0, 0, 300, 200)


def test_a_photo_lit_everywhere_is_taken_whole() -> None:
    assert find_disc(Image.new("RGB", (300, 200), (90, 90, 90))) == (0, 0, 300, 200)


def test_marks_and_noise_in_the_border_do_not_widen_the_disc() -> None:
    photo = _disc((500, 500), (250, 250), 150, (200, 100, 50))
    noise = np.random.default_rng(0).integers(0, 14, (500, 500, 3), dtype=np.uint8)
    photo = Image.fromarray(np.maximum(np.asarray(photo), noise))
    ImageDraw.Draw(photo).rectangle((5, 5, 18, 18), fill=(255, 255, 255))
    assert find_disc(photo) == pytest.approx((100, 100, 400, 400), abs=3)


def test_a_dim_part_of_the_disc_belongs_to_it_and_glare_around_it_does_not() -> None:
    photo = Image.new("RGB", (400, 400), (17, 17, 17))
    photo.paste((30, 20, 10), (50, 100, 350, 300))
    photo.paste((250, 150, 90), (200, 100, 350, 300))
    # 8 % of the 99th percentile, 250, is 20: above the glare, 17, and below the dim part, 30.
    assert find_disc(photo) == (50, 100, 350, 300)


def test_the_disc_is_found_in_a_photo_wider_than_65535_pixels() -> None:
    photo = Image.new("RGB", (66_000, 64))
    photo.paste((200, 100, 50), (0, 0, 66_000, 32))
    assert find_disc(photo) == (0, 0, 66_000, 32)


@pytest.mark.parametrize(
    "margins", [(300, 0, 0, 0), (0, 300, 0, 0), (50, 200, 120, 10), (400, 400, 400, 400)], ids=lambda m: "-".join(map(str, m))
)
def test_black_borders_do_not_change_the_view(margins: tuple[int, int, int, int]) -> None:
    photo = fundus(500)
    assert _difference(prepare(_padded(photo, *margins), RECIPE), prepare(photo, RECIPE)) < 1.5


def test_cropping_the_black_surround_does_not_change_the_view() -> None:
    photo = fundus(500)
    assert _difference(prepare(photo.crop(find_disc(photo)), RECIPE), prepare(photo, RECIPE)) < 0.5


@pytest.mark.parametrize("side", [350, 700, 1200])
def test_the_size_of_the_photo_does_not_change_the_view(side: int) -> None:
    assert _difference(prepare(fundus(500).resize((side, side)), RECIPE), prepare(fundus(500), RECIPE)) < 1.5


@pytest.mark.parametrize("size", [32, 100, 224, 299])
@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("photo_size", [(32, 32), (500, 300), (300, 500), (4000, 33), (33, 4000)])
def test_a_view_always_has_the_input_size(size: int, crop: str, photo_size: tuple[int, int]) -> None:
    view = prepare(Image.new("RGB", photo_size, (200, 100, 50)), Recipe(size, crop=crop))
    assert (view.shape, view.dtype) == ((size, size, 3), np.uint8)
    assert view.max() == 200


@pytest.mark.parametrize("size", [32, 64, 150, 224, 299])
def test_the_view_is_the_disc_square_inside_the_circle(size: int) -> None:
    recipe = Recipe(size)
    square = np.asarray(disc_square(fundus(500), recipe))
    assert square.shape == (size, size, 3)
    assert (prepare(fundus(500), recipe) == square * field_of_view(size)[..., None]).all()


def test_nothing_is_seen_outside_the_common_circle() -> None:
    view = prepare(Image.new("RGB", (300, 300), "white"), RECIPE)
    assert (view[field_of_view(224) == 0] == 0).all()
    assert (view[field_of_view(224) == 1] == 255).all()


def test_a_disc_cut_at_top_and_bottom_is_centred_and_not_stretched() -> None:
    photo = Image.new("RGB", (400, 200), (200, 100, 50))
    ImageDraw.Draw(photo).rectangle((150, 50, 249, 149), fill=(255, 255, 255))
    white = np.asarray(prepare(photo, RECIPE)).min(axis=2) > 150
    rows, columns = np.flatnonzero(white.any(axis=1)), np.flatnonzero(white.any(axis=0))
    assert rows.size == pytest.approx(56, abs=2)
    assert columns.size == pytest.approx(56, abs=2)
    assert rows.mean() == pytest.approx(111.5, abs=1)
    assert not prepare(photo, RECIPE)[:50].any()


@pytest.mark.parametrize("resize", RESIZES)
def test_without_a_crop_the_whole_photo_is_stretched(resize: str) -> None:
    photo = fundus(300).crop((0, 0, 300, 200))
    expected = np.asarray(photo.resize((64, 64), RESIZES[resize]))
    assert (prepare(photo, Recipe(64, crop="none", resize=resize)) == expected).all()


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ("none", (0.0, 127.5, 255.0)),
        ("unit", (0.0, 0.5, 1.0)),
        ("tf", (-1.0, 0.0, 1.0)),
        ("torch", (-0.485 / 0.229, (0.5 - 0.456) / 0.224, (1 - 0.406) / 0.225)),
        ("caffe", (255 - 103.939, 127.5 - 116.779, 0 - 123.68)),
    ],
)
def test_each_scaling_gives_its_range(scaling: str, expected: tuple[float, float, float]) -> None:
    view = np.tile(np.uint8([0, 127, 255]), (32, 32, 1))
    scaled = scale(view, Recipe(32, scaling=scaling))
    assert (scaled.shape, scaled.dtype) == ((1, 32, 32, 3), np.float32)
    half_a_level = {"none": 0.5, "unit": 0.002, "tf": 0.004, "torch": 0.01, "caffe": 0.5}[scaling]
    assert scaled[0, 5, 7] == pytest.approx(expected, abs=half_a_level + 1e-4)


def test_every_scaling_is_tested_above() -> None:
    assert set(SCALINGS) == {"none", "unit", "tf", "torch", "caffe"}


@pytest.mark.parametrize("size", [32, 33, 224])
def test_the_field_of_view_is_a_centred_circle_that_cannot_be_changed(size: int) -> None:
    mask = field_of_view(size)
    assert mask.mean() == pytest.approx(np.pi * FIELD_OF_VIEW_RADIUS**2, rel=0.03)
    assert (mask == mask[::-1]).all()
    assert (mask == mask.T).all()
    with pytest.raises(ValueError, match="read-only"):
        mask[0, 0] = 1


def test_twice_the_input_size_is_decoded() -> None:
    assert Recipe(224).working_side == 448


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"crop": "square"}, "crop='square'.*fundus, none"),
        ({"scaling": "imagenet"}, "scaling='imagenet'.*none, unit, tf, torch, caffe"),
        ({"resize": "lanczos"}, "resize='lanczos'.*nearest, bilinear, bicubic"),
        ({"input_size": 31}, "input_size=31 is too small"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(wrong: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Recipe(**({"input_size": 224} | wrong))


def test_a_real_photo_gives_the_same_view_with_borders_added(retina: bytes, tmp_path: Path) -> None:
    photo = decode(retina, RECIPE.working_side, 10_000_000).image
    assert _difference(prepare(_padded(photo, 200, 50, 90, 0), RECIPE), prepare(photo, RECIPE)) < 2
