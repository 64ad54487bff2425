"""Files that are not like the textbook's: the right picture, or refused by name; never another picture."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from model_code.decode import Photo, decode
from model_code.formats import read_header
from model_code.formats.header import MAX_DECODE_MEMORY
from model_code.image_error import ImageError
from tests.support.photos import (
    PDF,
    bmp_header,
    encode,
    exif_of,
    fundus,
    gif,
    many_scans,
    packed,
    png_with,
    sixteen_bit,
    sixteen_bit_rgb_tiff,
    tiff,
    truncated,
    webp_claiming,
    with_exif,
    with_frame,
)

UPRIGHT = fundus(200).crop((0, 30, 200, 170))
GREY = UPRIGHT.convert("L")
SAMPLES = np.asarray(GREY).astype(np.uint16)
JPEG = encode(UPRIGHT, "JPEG")
PNG = encode(UPRIGHT, "PNG")


def _decode(data: bytes) -> Photo:
    return decode(data, 448, 50_000_000)


def _difference(data: bytes, expected: Image.Image) -> float:
    actual = _decode(data).image
    assert actual.size == expected.size
    return float(np.abs(np.asarray(actual, np.float32) - np.asarray(expected.convert("RGB"), np.float32)).mean())


def _refusal(data: bytes) -> ImageError:
    with pytest.raises(ImageError) as refused:
        _decode(data)
    return refused.value


def _grey_tiff(bits: int, **tags: int) -> bytes:
    """The photo in samples of `bits` bits, in 16 each."""
    pixels = (SAMPLES << (bits - 8)).astype("<u2")
    return tiff(200, 140, pixels.tobytes(), bits=16, more={int(tag[1:]): value for tag, value in tags.items()})


def test_twelve_bits_packed_are_right() -> None:
    assert _difference(tiff(200, 140, packed(SAMPLES << 4, 12), bits=12), GREY) < 1


@pytest.mark.parametrize(("bits", "brightest"), [(10, 1023), (12, 4095), (12, 3900), (14, 16383), (16, 65535), (16, 61000)])
def test_samples_of_fewer_bits_in_sixteen_are_right_where_the_file_says_so(bits: int, brightest: int) -> None:
    assert _difference(_grey_tiff(bits, t281=brightest), GREY) < 1


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_samples_of_fewer_bits_in_sixteen_are_refused_where_the_file_does_not_say_so(bits: int) -> None:
    assert _refusal(_grey_tiff(bits)).code == "mode_unsupported"
    colour = (np.asarray(UPRIGHT).astype(np.uint16) << (bits - 8)).astype("<u2")
    assert _refusal(tiff(200, 140, colour.tobytes(), bits=16, samples=3)).code == "mode_unsupported"
    assert _refusal(encode(Image.fromarray(SAMPLES << (bits - 8)), "PNG")).code == "mode_unsupported"


@pytest.mark.parametrize("bits", [10, 12, 14, 24])
def test_colour_of_odd_depths_is_refused_by_its_depth(bits: int) -> None:
    colour = np.asarray(UPRIGHT).astype(np.uint32) << (bits - 8)
    refused = _refusal(tiff(200, 140, packed(colour, bits), bits=bits, samples=3))
    assert (refused.code, str(bits) in str(refused)) == ("mode_unsupported", True)


@pytest.mark.parametrize("bits", [10, 11, 14])
def test_grey_of_odd_depths_is_refused_by_its_depth(bits: int) -> None:
    refused = _refusal(tiff(200, 140, packed(SAMPLES.astype(np.uint32) << (bits - 8), bits), bits=bits))
    assert (refused.code, str(bits) in str(refused)) == ("mode_unsupported", True)


def test_colour_of_twelve_bits_in_sixteen_is_refused_by_its_depth() -> None:
    colour = (np.asarray(UPRIGHT).astype(np.uint16) << 4).astype("<u2").tobytes()
    assert "12 bits" in str(_refusal(tiff(200, 140, colour, bits=16, samples=3, more={281: 4095})))


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_white_is_zero_is_turned_round(bits: int) -> None:
    pixels = (2**bits - 1 - (SAMPLES << (bits - 8))).astype("<u2").tobytes()
    assert _difference(tiff(200, 140, pixels, bits=16, more={262: 0, 281: 2**bits - 1}), GREY) < 1


def test_white_is_zero_of_eight_bits_is_turned_round() -> None:
    assert _difference(tiff(200, 140, (255 - np.asarray(GREY)).tobytes(), bits=8, more={262: 0}), GREY) < 1


@pytest.mark.parametrize("compression", ["tiff_deflate", "tiff_lzw", "zstd"])
def test_sixteen_bits_compressed_are_right(compression: str) -> None:
    assert _difference(encode(sixteen_bit(GREY), "TIFF", compression=compression), GREY) < 1


def test_signed_samples_are_refused() -> None:
    assert _refusal(_grey_tiff(16, t339=2)).code == "mode_unsupported"


def _with_alpha(alpha: int, mode: str = "RGBA") -> Image.Image:
    image = UPRIGHT.convert("RGBA")
    image.putalpha(alpha)
    return image.convert(mode)


@pytest.mark.parametrize("alpha", [0, 1, 254, 255])
@pytest.mark.parametrize(("file_format", "mode"), [("PNG", "RGBA"), ("TIFF", "RGBA"), ("PNG", "LA"), ("WEBP", "RGBA")])
def test_an_alpha_channel_that_was_not_filled_does_not_hide_the_photo(file_format: str, mode: str, alpha: int) -> None:
    options = {"exact": True} if file_format == "WEBP" else {}
    expected = GREY if mode == "LA" else UPRIGHT
    assert _difference(encode(_with_alpha(alpha, mode), file_format, **options), expected) < 2


def test_a_bmp_of_32_bits_whose_fourth_byte_is_zero_is_opaque() -> None:
    assert _difference(encode(_with_alpha(0), "BMP"), UPRIGHT) < 1


def test_a_palette_that_is_all_transparent_does_not_hide_the_photo() -> None:
    palette = UPRIGHT.quantize(64)
    assert _difference(encode(palette, "PNG", transparency=bytes(64)), palette) < 2


def test_nothing_but_transparency_is_refused() -> None:
    refused = _refusal(encode(Image.new("RGBA", (64, 64), (0, 0, 0, 0)), "PNG"))
    assert (refused.code, "transparent" in str(refused)) == ("mode_unsupported", True)


@pytest.mark.parametrize("code", [0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF])
def test_other_codings_of_jpeg_are_refused_by_name(code: int) -> None:
    refused = _refusal(with_frame(JPEG, code))
    assert refused.code == "format_unsupported"
    assert any(name in str(refused) for name in ("arithmetic", "lossless", "hierarchical"))


def test_a_jpeg_of_twelve_bits_is_refused_by_its_depth() -> None:
    at = JPEG.index(b"\xff\xc0") + 4
    assert "12 bits" in str(_refusal(JPEG[:at] + b"\x0c" + JPEG[at + 1 :]))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("end", [b"", b"\xff", b"\0" * 100])
def test_a_jpeg_without_an_end_marker_is_read_and_that_is_said(progressive: bool, end: bytes) -> None:
    data = encode(UPRIGHT, "JPEG", progressive=progressive)
    photo = _decode(data[:-2] + end)
    assert photo.defect == "no_end_marker"
    assert photo.image.tobytes() == _decode(data).image.tobytes()
    assert _decode(data).defect is None


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.97])
def test_a_jpeg_that_is_cut_off_is_not_taken_for_one_without_an_end_marker(share: float, progressive: bool) -> None:
    data = encode(fundus(800), "JPEG", progressive=progressive)
    assert _refusal(truncated(data, share)).code == "image_corrupt"


@pytest.mark.parametrize("leading", [b"\0", b"\r\n", b"\xef\xbb\xbf", bytes(512), b"junk " * 200, b"--boundary\r\n\r\n"])
def test_bytes_before_a_jpeg_are_skipped_and_that_is_said(leading: bytes) -> None:
    photo = _decode(leading + JPEG)
    assert photo.defect == "leading_bytes"
    assert photo.image.tobytes() == _decode(JPEG).image.tobytes()


@pytest.mark.parametrize("container", [PDF, b"PK\3\4", gif(1), b"8BPS", b"<html>", b"\0\0\0\x20ftypheic", b"RIFF\0\0\0\0AVI "])
def test_a_jpeg_inside_another_file_is_not_the_photo(container: bytes) -> None:
    assert _refusal(container + JPEG).code == "format_unsupported"


SIDE_CHUNKS = {
    "profile of 2 MB": (b"iCCP", b"icc\0\0" + zlib.compress(np.random.default_rng(1).bytes(2**21))),
    "profile that unpacks to 60 MB": (b"iCCP", b"icc\0\0" + zlib.compress(bytes(60 * 2**20))),
    "XMP of 2 MB": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<x/>" * 2**19),
    "text that unpacks to 60 MB": (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(60 * 2**20))),
    "profile that is none": (b"iCCP", b"icc"),
    "EXIF that is none": (b"eXIf", b"II*\0\xff\xff\xff\xff"),
    "unknown": (b"quUx", bytes(1000)),
}


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("name", SIDE_CHUNKS)
def test_a_bad_or_large_side_chunk_does_not_cost_a_png(name: str, damaged: bool) -> None:
    for data in (png_with(PNG, SIDE_CHUNKS[name], damaged=damaged), png_with(PNG, *[SIDE_CHUNKS[name]] * 2, damaged=damaged)):
        assert _difference(data, UPRIGHT) == 0


def test_a_side_chunk_of_a_wrong_length_does_not_cost_a_png() -> None:
    data = bytearray(png_with(PNG, (b"quUx", bytes(100))))
    at = data.index(b"quUx") - 4
    data[at : at + 4] = b"\x7f\xff\xff\xff"
    assert _difference(bytes(data), UPRIGHT) == 0


def test_a_damaged_chunk_of_the_picture_is_corrupt() -> None:
    data = bytearray(PNG)
    data[data.index(b"IDAT") + 30] ^= 1
    assert _refusal(bytes(data)).code == "image_corrupt"


TURNED = UPRIGHT.transpose(Image.Transpose.ROTATE_270)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
EXIF_6 = exif_of([(0x0112, 3, 1, 6)])
RAW_EXIF = b"\nexif\n    28\n" + EXIF_6.hex().encode()


@pytest.mark.parametrize(
    "data",
    [
        with_exif(JPEG, EXIF_6),
        with_exif(JPEG, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
        png_with(PNG, (b"eXIf", EXIF_6[6:])),
        png_with(PNG, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
        png_with(PNG, (b"tEXt", b"Raw profile type exif\0" + RAW_EXIF)),
        png_with(PNG, (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(RAW_EXIF))),
        encode(UPRIGHT, "WEBP", exif=EXIF_6),
        encode(UPRIGHT, "WEBP", xmp=XMP),
    ],
    ids=["JPEG EXIF", "JPEG XMP", "PNG EXIF", "PNG XMP", "PNG raw EXIF", "PNG packed EXIF", "WEBP EXIF", "WEBP XMP"],
)
def test_the_orientation_is_found_wherever_a_file_holds_it(data: bytes) -> None:
    assert _difference(data, TURNED) < 4


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("tile", tiff(64, 64, more={259: 8, 322: 26_000, 323: 26_000, 324: 8, 325: 100})),
        ("strip", tiff(64, 400_000, more={259: 5, 258: 8})),
        ("rows a strip", tiff(3_000, 3_000, bits=16, samples=3, more={259: 50_000, 278: 2**31})),
        ("WebP", webp_claiming(7_070, 7_070)),
        ("PNG RGB", encode(Image.new("RGB", (7_000, 7_000)), "PNG", compress_level=1)),
        ("BMP", bmp_header(7_000, 7_000)),
        ("progressive", encode(Image.new("RGB", (7_000, 7_000)), "JPEG", progressive=True, subsampling=0)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_into_memory_is_refused_by_its_header(name: str, data: bytes) -> None:
    if name in {"strip", "rows a strip"}:
        assert _refusal(data).code in {"image_too_many_pixels", "image_corrupt"}
    else:
        refused = _refusal(data)
        assert (refused.code, f"the limit is {MAX_DECODE_MEMORY // 2**20}" in str(refused)) == ("image_too_many_pixels", True)


def test_a_baseline_jpeg_of_as_many_pixels_is_decoded_scaled() -> None:
    assert _decode(encode(Image.new("RGB", (7_000, 7_000), "red"), "JPEG")).image.size == (875, 875)


def test_a_palette_of_as_many_pixels_is_made_smaller_a_strip_at_a_time() -> None:
    photo = _decode(encode(Image.new("P", (7_000, 7_000), 7), "PNG", compress_level=1))
    assert photo.image.size == (467, 467)


@pytest.mark.parametrize("size", [(448, 100_000), (40_000, 500)])
def test_a_very_long_photo_is_made_smaller_too(size: tuple[int, int]) -> None:
    image = _decode(encode(Image.new("L", size, 99), "PNG", compress_level=1)).image
    assert image.width * image.height <= 16 * 448**2


@pytest.mark.parametrize("scans", [70, 1_000])
def test_a_jpeg_of_many_scans_is_refused_by_its_header(scans: int) -> None:
    assert _refusal(many_scans(64, scans)).code == "image_too_many_scans"


def test_a_jpeg_of_some_more_scans_than_usual_is_read() -> None:
    assert read_header(many_scans(64, 30), 448).scans == 36
    assert _decode(many_scans(64, 30)).image.size == (64, 64)


def test_scans_cannot_hide_behind_an_end_marker_in_a_comment() -> None:
    data = many_scans(64, 0)
    comment = b"\xff\xfe" + struct.pack(">H", 4) + b"\xff\xd9"
    hidden = data[:-2] + comment + many_scans(64, 100)[len(data) - 2 :]
    assert _refusal(hidden).code == "image_too_many_scans"


@pytest.mark.parametrize("wrap", [lambda exif: with_exif(JPEG, exif), lambda exif: png_with(PNG, (b"eXIf", exif[6:]))])
def test_entries_that_share_their_bytes_cost_nothing(wrap: Callable[[bytes], bytes]) -> None:
    exif = exif_of((0x9000 + i, 7, 60_000, 8) for i in range(5_000))
    assert _difference(wrap(exif), UPRIGHT) < 4


def test_tags_that_share_their_bytes_are_refused() -> None:
    data = bytearray(encode(UPRIGHT, "TIFF"))
    first = len(data)
    tags = [(tag, 4, 1, value) for tag, value in ((256, 200), (257, 140))]
    tags += [(1_000 + i, 7, len(data), 8) for i in range(3_000)]
    data[4:8] = struct.pack("<I", first)
    data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    assert _refusal(bytes(data)).code == "image_corrupt"


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "jpeg"])
def test_every_usual_compression_of_tiff_is_read(compression: str) -> None:
    data = encode(UPRIGHT, "TIFF", compression=compression)
    assert _difference(data, UPRIGHT) < 8


def test_a_header_never_says_more_than_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory that a header asks for covers what Pillow stores."""
    for image in (UPRIGHT, GREY, sixteen_bit(GREY), UPRIGHT.quantize(64), _with_alpha(9)):
        for file_format in ("PNG", "TIFF"):
            data = encode(image, file_format)
            opened = Image.open(io.BytesIO(data))
            stored = {"L": 1, "P": 1, "I;16": 2}.get(opened.mode, 4) * opened.width * opened.height
            assert read_header(data, 448).memory >= stored


def test_sixteen_bit_colour_is_right() -> None:
    assert _difference(sixteen_bit_rgb_tiff(UPRIGHT), UPRIGHT) < 1
