from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from model_code.decode import FORMATS, MIN_SIDE, Photo, decode
from model_code.errors import ImageError
from model_code.preprocessing import Recipe, prepare
from tests.support.photos import (
    PDF,
    SVG,
    bombs,
    corrupt_exif,
    corrupt_icc,
    encode,
    fundus,
    gif,
    half_transparent,
    png,
    sixteen_bit,
    sixteen_bit_rgb_png,
    sixteen_bit_rgb_tiff,
    stored_under,
    truncated,
)

WORKING_SIDE = 448
MAX_PIXELS = 50_000_000
UPRIGHT = fundus(200).crop((0, 30, 200, 170))
GREY = UPRIGHT.convert("L")
BOMBS = bombs()


def _big_endian(image: Image.Image) -> Image.Image:
    return Image.frombytes("I;16B", image.size, np.asarray(image).astype(">u2").tobytes())


COLOUR_FILES = {
    "JPEG": encode(UPRIGHT, "JPEG"),
    "JPEG progressive": encode(UPRIGHT, "JPEG", progressive=True),
    "JPEG CMYK": encode(UPRIGHT.convert("CMYK"), "JPEG"),
    "JPEG of several (MPO)": encode(UPRIGHT, "MPO", save_all=True, append_images=[GREY.convert("RGB")], quality=95),
    "PNG": encode(UPRIGHT, "PNG"),
    "PNG RGBA": encode(UPRIGHT.convert("RGBA"), "PNG"),
    "PNG palette": encode(UPRIGHT.quantize(256), "PNG"),
    "PNG 16 bit": sixteen_bit_rgb_png(UPRIGHT),
    "PNG animated": encode(UPRIGHT, "PNG", save_all=True, append_images=[Image.new("RGB", UPRIGHT.size)]),
    "BMP": encode(UPRIGHT, "BMP"),
    "BMP palette": encode(UPRIGHT.quantize(256), "BMP"),
    "TIFF": encode(UPRIGHT, "TIFF"),
    "TIFF LZW": encode(UPRIGHT, "TIFF", compression="tiff_lzw"),
    "TIFF JPEG": encode(UPRIGHT, "TIFF", compression="jpeg", quality=95),
    "TIFF RGBA": encode(UPRIGHT.convert("RGBA"), "TIFF"),
    "TIFF CMYK": encode(UPRIGHT.convert("CMYK"), "TIFF"),
    "TIFF palette": encode(UPRIGHT.quantize(256), "TIFF"),
    "TIFF 16 bit": sixteen_bit_rgb_tiff(UPRIGHT),
    "TIFF of several": encode(UPRIGHT, "TIFF", save_all=True, append_images=[Image.new("RGB", UPRIGHT.size)]),
    "WEBP": encode(UPRIGHT, "WEBP"),
    "WEBP lossy": encode(UPRIGHT, "WEBP", lossless=False, quality=95),
    "WEBP animated": encode(UPRIGHT, "WEBP", save_all=True, append_images=[Image.new("RGB", UPRIGHT.size)]),
}
GREY_FILES = {
    "JPEG": encode(GREY, "JPEG"),
    "PNG": encode(GREY, "PNG"),
    "PNG LA": encode(GREY.convert("LA"), "PNG"),
    "PNG 16 bit": encode(sixteen_bit(GREY), "PNG"),
    "BMP": encode(GREY, "BMP"),
    "TIFF": encode(GREY, "TIFF"),
    "TIFF 16 bit": encode(sixteen_bit(GREY), "TIFF"),
    "TIFF 16 bit big-endian": encode(_big_endian(sixteen_bit(GREY)), "TIFF"),
}


def _decode(data: bytes, working_side: int = WORKING_SIDE) -> Photo:
    return decode(data, working_side, MAX_PIXELS)


def _difference(actual: Image.Image, expected: Image.Image) -> float:
    assert actual.mode == "RGB"
    assert actual.size == expected.size
    return float(np.abs(np.asarray(actual, np.float32) - np.asarray(expected.convert("RGB"), np.float32)).mean())


def _refusal(data: bytes) -> str:
    with pytest.raises(ImageError) as refused:
        _decode(data)
    return refused.value.code


@pytest.mark.parametrize("name", COLOUR_FILES)
def test_every_format_and_mode_gives_the_same_picture(name: str) -> None:
    photo = _decode(COLOUR_FILES[name])
    assert _difference(photo.image, UPRIGHT) < 4
    assert (photo.format, photo.width, photo.height) == (name.split()[0], 200, 140)


@pytest.mark.parametrize("name", GREY_FILES)
def test_every_format_and_depth_gives_the_same_grey_picture(name: str) -> None:
    assert _difference(_decode(GREY_FILES[name]).image, GREY) < 2


def test_a_black_and_white_picture_is_decoded() -> None:
    bilevel = GREY.convert("1")
    for file_format in ("PNG", "TIFF", "BMP"):
        assert _difference(_decode(encode(bilevel, file_format)).image, bilevel) == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_exif_orientation_is_applied(file_format: str, orientation: int) -> None:
    assert _difference(_decode(stored_under(UPRIGHT, orientation, file_format)).image, UPRIGHT) < 2


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_is_applied_to_a_photo_decoded_scaled(file_format: str) -> None:
    large = UPRIGHT.resize((1500, 1050))
    photo = _decode(stored_under(large, 6, file_format))
    assert photo.image.width < 1000
    assert _difference(photo.image, large.resize(photo.image.size)) < 2


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_orientation_is_applied_to_16_bit_pixels(file_format: str) -> None:
    assert _difference(_decode(stored_under(sixteen_bit(GREY), 6, file_format)).image, GREY) < 2


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_width_and_height_are_those_stored_whatever_the_orientation(file_format: str) -> None:
    photo = _decode(stored_under(UPRIGHT, 6, file_format))
    assert (photo.width, photo.height) == (UPRIGHT.height, UPRIGHT.width)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("broken", [corrupt_exif, corrupt_icc])
def test_corrupt_metadata_does_not_cost_the_photo(file_format: str, broken: Callable[[str], bytes]) -> None:
    assert _difference(_decode(broken(file_format)).image, fundus()) < 2


@pytest.mark.parametrize(
    "data",
    [
        encode(half_transparent(UPRIGHT, "RGBA"), "PNG"),
        encode(half_transparent(UPRIGHT, "RGBA"), "TIFF"),
        encode(half_transparent(UPRIGHT, "RGBA"), "WEBP"),
        encode(half_transparent(UPRIGHT, "RGBA").quantize(255, method=Image.Quantize.FASTOCTREE), "PNG"),
        encode(half_transparent(UPRIGHT, "LA"), "PNG"),
    ],
    ids=["PNG RGBA", "TIFF RGBA", "WEBP RGBA", "PNG palette", "PNG LA"],
)
def test_transparency_is_laid_over_black(data: bytes) -> None:
    pixels = np.asarray(_decode(data).image)
    assert pixels[:, :99].max() == 0
    expected = np.asarray(UPRIGHT.convert("L"), np.float32)[:, 101:].mean()
    assert np.asarray(_decode(data).image.convert("L"), np.float32)[:, 101:].mean() == pytest.approx(expected, abs=6)


def test_a_transparent_colour_of_an_opaque_mode_is_black() -> None:
    photo = Image.new("RGB", (64, 64), (10, 200, 30))
    photo.paste((255, 255, 255), (0, 0, 32, 64))
    assert np.asarray(_decode(encode(photo, "PNG", transparency=(255, 255, 255))).image)[:, :32].max() == 0


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "PA", "CMYK", "YCbCr", "LAB"])
def test_a_large_photo_of_any_mode_keeps_its_picture_when_scaled(mode: str) -> None:
    large = fundus(960)
    stored = large.quantize(256).convert(mode) if mode in {"P", "PA"} else large.convert(mode)
    expected = large.convert("L") if mode in {"L", "LA"} else large
    photo = _decode(encode(stored, "TIFF"))
    assert _difference(photo.image.resize((480, 480)), expected.resize((480, 480))) < 5


@pytest.mark.parametrize("side", [MIN_SIDE, 100, 447, 448, 449, 895, 896, 1000, 1343, 1344, 1800])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_a_decoded_photo_has_the_working_side_and_not_much_more(file_format: str, side: int) -> None:
    photo = _decode(encode(Image.new("RGB", (2 * side, side), "red"), file_format))
    assert min(side, WORKING_SIDE) <= photo.image.height < 2 * WORKING_SIDE
    assert photo.image.width == pytest.approx(2 * photo.image.height, abs=2)
    assert (photo.width, photo.height) == (2 * side, side)


def test_a_large_jpeg_is_never_decoded_at_full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(fundus(400).resize((4000, 4000)), "JPEG")
    loaded: list[tuple[int, int]] = []
    load = JpegImagePlugin.JpegImageFile.load

    def noting_load(image: JpegImagePlugin.JpegImageFile) -> object:
        loaded.append(image.size)
        return load(image)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", noting_load)
    photo = _decode(data)
    assert loaded
    assert set(loaded) == {(500, 500)}
    assert photo.image.size == (500, 500)
    assert (photo.width, photo.height) == (4000, 4000)


@pytest.mark.parametrize("side", [1000, 1800, 2400, 4000])
def test_the_view_of_a_scaled_decode_is_that_of_the_full_one(side: int) -> None:
    data, recipe = encode(fundus(400).resize((side, side)), "JPEG"), Recipe(224)
    full = prepare(decode(data, side, MAX_PIXELS).image, recipe).astype(np.float32)
    scaled = prepare(decode(data, recipe.working_side, MAX_PIXELS).image, recipe).astype(np.float32)
    assert np.abs(full - scaled).mean() < 1
    assert np.abs(full - scaled).max() < 40


def _fail_on_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: Image.Image) -> None:
        raise AssertionError("pixels were decoded")

    for kind in (Image.Image, ImageFile.ImageFile, WebPImagePlugin.WebPImageFile, PngImagePlugin.PngImageFile):
        monkeypatch.setattr(kind, "load", load)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_decompression_bomb_is_refused_by_its_header(file_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_on_load(monkeypatch)
    assert _refusal(BOMBS[file_format]) == "image_too_many_pixels"


@pytest.mark.parametrize("size", [(7072, 7071), (10_000, 10_000), (13_000, 13_000), (32, 1_600_000), (2**31 - 1, 2**31 - 1)])
def test_more_pixels_than_the_limit_are_refused_without_a_warning(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_on_load(monkeypatch)
    assert _refusal(png(*size)) == "image_too_many_pixels"


def test_as_many_pixels_as_the_limit_are_decoded() -> None:
    data = encode(UPRIGHT, "PNG")
    assert decode(data, WORKING_SIDE, UPRIGHT.width * UPRIGHT.height).image.size == UPRIGHT.size
    with pytest.raises(ImageError, match="200 x 140"):
        decode(data, WORKING_SIDE, UPRIGHT.width * UPRIGHT.height - 1)


@pytest.mark.parametrize("side", [10_000, 14_000])
def test_what_pillow_takes_for_a_bomb_has_too_many_pixels(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_on_load(monkeypatch)
    assert _refusal(png(side, side)) == "image_too_many_pixels"


@pytest.mark.parametrize("size", [(1, 1), (31, 32), (32, 31), (1, 5000)])
def test_a_side_under_32_pixels_is_too_small(size: tuple[int, int]) -> None:
    assert _refusal(encode(Image.new("RGB", size), "PNG")) == "image_too_small"
    assert _decode(encode(Image.new("RGB", (32, 32)), "PNG")).image.size == (32, 32)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP", "JPEG"])
def test_a_photo_of_no_size_is_refused(file_format: str) -> None:
    assert _refusal(bombs(0)[file_format]) in {"format_unsupported", "image_corrupt", "image_too_small"}


@pytest.mark.parametrize(
    "data",
    [PDF, SVG, b"hello", bytes(1000), b"\xff\xd8\xff", b"PK\3\4" + bytes(100), gif(1), gif(10_000)],
    ids=["PDF", "SVG", "text", "zeros", "JPEG mark", "ZIP", "GIF", "GIF of 10,000 frames"],
)
def test_what_is_no_photo_is_unsupported(data: bytes) -> None:
    assert _refusal(data) == "format_unsupported"


@pytest.mark.parametrize("file_format", ["GIF", "JPEG2000", "ICO", "PPM", "TGA", "AVIF"])
def test_other_image_formats_are_unsupported(file_format: str) -> None:
    assert _refusal(encode(fundus(64), file_format)) == "format_unsupported"


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_no_agreed_range_are_unsupported(mode: str) -> None:
    assert _refusal(encode(UPRIGHT.convert(mode), "TIFF")) == "mode_unsupported"


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("file_format", FORMATS)
def test_a_truncated_file_is_corrupt(file_format: str, share: float) -> None:
    assert _refusal(truncated(encode(UPRIGHT, file_format), share)) == "image_corrupt"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file_format", FORMATS)
def test_random_damage_never_raises_anything_but_an_image_error(file_format: str) -> None:
    rng, good = np.random.default_rng(7), encode(fundus(64), file_format)
    refused = 0
    for _ in range(150):
        data = bytearray(good)
        for place in rng.integers(0, min(len(data), 300), rng.integers(1, 6)):
            data[place] = rng.integers(256)
        try:
            assert _decode(bytes(data)).image.mode == "RGB"
        except ImageError:
            refused += 1
    assert refused > 0
