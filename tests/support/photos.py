"""Image files for the tests, as bytes: good ones in every format, broken ones, and headers that promise too much."""

import base64
import io
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = PROJECT / "models"
SAMPLES = PROJECT / "samples"

PDF = b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer\n<< /Root 1 0 R >>\n%%EOF\n"
SVG = b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' width='400' height='400'><circle r='200'/></svg>"
BOMB_SIDE = 20_000

ORIENTATION = 0x0112
_STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation -> how an upright photo is turned before it is stored under that orientation."""


def fundus(side: int = 300, seed: int = 0) -> Image.Image:
    """A made-up fundus photo: a lit disc on black with a bright spot off its centre, so that no turn of it is the same.

    Different seeds give photos of different colours and with the spot elsewhere.
    """
    rng = np.random.default_rng(seed)
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    y, x = axis[:, None], axis[None, :]
    shade = 1 - 0.35 * (x**2 + y**2) + 0.1 * x + 0.05 * y
    spot_x, spot_y = (0.45, -0.2) if seed == 0 else rng.uniform(-0.5, 0.5, 2)
    spot = np.exp(-((x - spot_x) ** 2 + (y - spot_y) ** 2) / 0.02)
    colour = np.float32([190, 95, 50]) if seed == 0 else rng.uniform((120, 50, 20), (220, 130, 90)).astype(np.float32)
    pixels = shade[..., None] * colour + spot[..., None] * np.float32([60, 80, 70])
    inside = (x**2 + y**2 <= 0.9**2)[..., None]
    return Image.fromarray((pixels * inside).clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """An image file; `options` are those of Pillow's save. JPEG is saved at quality 95, WebP lossless."""
    defaults: dict[str, Any] = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(file_format, {})
    buffer = io.BytesIO()
    image.save(buffer, file_format, **(defaults | options))
    return buffer.getvalue()


def base64_text(data: bytes) -> str:
    """As a request carries it."""
    return base64.b64encode(data).decode()


def stored_under(upright: Image.Image, orientation: int, file_format: str) -> bytes:
    """A file whose EXIF orientation says how to turn it upright; 1 to 8."""
    turn = _STORED_AS[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode(upright if turn is None else upright.transpose(turn), file_format, exif=exif)


def sixteen_bit(image: Image.Image) -> Image.Image:
    """The photo's grey level in 16 bits, 0..65535."""
    return Image.fromarray(_sixteen_bits(np.asarray(image.convert("L"))))


def half_transparent(image: Image.Image, mode: str) -> Image.Image:
    """RGBA or LA: the left half transparent, with white hidden under it; the right half opaque."""
    pixels = np.array(image.convert("RGBA"))
    pixels[:, : pixels.shape[1] // 2] = (255, 255, 255, 0)
    return Image.fromarray(pixels).convert(mode)


def corrupt_exif(file_format: str) -> bytes:
    """A photo whose EXIF block starts well and breaks off in its first entry."""
    return encode(fundus(), file_format, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0")


def corrupt_icc(file_format: str) -> bytes:
    """A photo whose colour profile is junk."""
    return encode(fundus(), file_format, icc_profile=b"not a profile " * 20)


def truncated(data: bytes, share: float = 0.5) -> bytes:
    """The first part of a file."""
    return data[: int(len(data) * share)]


def gif(frames: int) -> bytes:
    """An animated GIF, 64 x 64, whose frames are a pixel each."""
    head = b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    return head + frame * frames + b"\x3b"


def png(width: int, height: int, rows: bytes = b"", bit_depth: int = 8, colour_type: int = 2) -> bytes:
    """A PNG file made by hand; `rows` are its scan lines, each after a filter byte. Without them only its header is right."""
    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def sixteen_bit_rgb_png(image: Image.Image) -> bytes:
    """RGB in 16 bits a channel, which Pillow reads but does not write."""
    pixels = _sixteen_bits(np.asarray(image.convert("RGB"))).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return png(image.width, image.height, rows, bit_depth=16)


def tiff(
    width: int, height: int, pixels: bytes = b"", bits: int = 1, samples: int = 1, more: Mapping[int, int] | None = None
) -> bytes:
    """An uncompressed TIFF file made by hand: grey (1 sample) or RGB (3). Without pixels only its header is right.

    more: further tags of one value each, or others for those that are written anyway.
    """
    bits_at = 8
    pixels_at = bits_at + 2 * samples
    entries = {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, samples, bits if samples == 1 else bits_at),
        259: (3, 1, 1),
        262: (3, 1, 1 if samples == 1 else 2),
        273: (4, 1, pixels_at),
        277: (3, 1, samples),
        278: (4, 1, height),
        279: (4, 1, len(pixels)),
    } | {tag: (4, 1, value) for tag, value in (more or {}).items()}
    directory = b"".join(struct.pack("<HHII", tag, *entries[tag]) for tag in sorted(entries))
    body = struct.pack(f"<{samples}H", *[bits] * samples) + pixels
    body += b"\0" * (len(body) % 2)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(entries)) + directory + b"\0\0\0\0"


def sixteen_bit_rgb_tiff(image: Image.Image) -> bytes:
    """RGB in 16 bits a channel."""
    pixels = _sixteen_bits(np.asarray(image.convert("RGB"))).astype("<u2")
    return tiff(image.width, image.height, pixels.tobytes(), bits=16, samples=3)


def packed(samples: np.ndarray, bits: int) -> bytes:
    """uint (H, W) or (H, W, C) samples, `bits` each, the first in the highest bits; each row ends on a byte."""
    rows = samples.reshape(len(samples), -1)
    places = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(places.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()


def png_with(data: bytes, *chunks: tuple[bytes, bytes], damaged: bool = False) -> bytes:
    """A PNG file with further chunks before its pixels; their check sums are wrong if `damaged`."""
    at = data.index(b"IDAT") - 4
    added = b"".join(_chunk(*chunk)[: -4 if damaged else None] + b"\xde\xad\xbe\xef" * damaged for chunk in chunks)
    return data[:at] + added + data[at:]


def many_scans(side: int, scans: int) -> bytes:
    """A grey progressive JPEG, to which scans are added that say of every block that nothing is left: a few bytes each."""
    data = encode(Image.new("L", (side, side), 128), "JPEG", progressive=True, quality=50)
    table = b"\xff\xc4" + struct.pack(">H", 20) + bytes([0x13, 1]) + bytes(15) + bytes([0xE0])
    left, bits = ((side + 7) // 8) ** 2, ""
    while left > 0:  # runs of 16,384 to 32,767 blocks
        run = max(16_384, min(left, 32_767))
        bits += "0" + format(run - 16_384, "014b")
        left -= run
    bits += "1" * (-len(bits) % 8)
    raw = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 3, 1, 63, 0) + raw
    return data[:-2] + table + scan * scans + b"\xff\xd9"


def with_frame(data: bytes, code: int) -> bytes:
    """A JPEG file whose frame header says another kind of coding."""
    at = data.index(b"\xff\xc0")
    return data[: at + 1] + bytes([code]) + data[at + 2 :]


def exif_of(entries: Iterable[tuple[int, int, int, int]]) -> bytes:
    """An EXIF block of these entries: tag, type, count, value or place."""
    packed_entries = [struct.pack("<HHII", *entry) for entry in entries]
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(packed_entries)) + b"".join(packed_entries) + b"\0\0\0\0"


def with_exif(data: bytes, exif: bytes) -> bytes:
    """A JPEG file with an EXIF block before all else."""
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def bmp_header(width: int, height: int) -> bytes:
    """The header of a 24-bit BMP file, and no pixels."""
    sizes = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 100, 0, 0, 54) + sizes + bytes(100)


def jpeg_claiming(width: int, height: int) -> bytes:
    """A small JPEG file whose frame header claims another size."""
    data = bytearray(encode(fundus(64), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_claiming(width: int, height: int) -> bytes:
    """A small lossless WebP file whose header claims another size, from 1 to 16,384 a side."""
    data = bytearray(encode(fundus(64), "WEBP"))
    sizes = data.index(b"VP8L") + 9
    flags = int.from_bytes(data[sizes : sizes + 4], "little") >> 28 << 28
    data[sizes : sizes + 4] = (flags | (width - 1) | (height - 1) << 14).to_bytes(4, "little")
    return bytes(data)


def bombs(side: int = BOMB_SIDE) -> dict[str, bytes]:
    """Format -> a file of a few bytes whose header promises a photo of side x side pixels."""
    return {
        "PNG": png(side, side),
        "TIFF": tiff(side, side),
        "BMP": bmp_header(side, side),
        "JPEG": jpeg_claiming(side, side),
        "WEBP": webp_claiming(min(max(side, 1), 16_384), min(max(side, 1), 16_384)),
    }


def bad_cells() -> dict[str, tuple[Any, str]]:
    """Name -> cell of the `image` column that cannot be answered, and the error code it must get."""
    photo = fundus()
    files: dict[str, tuple[bytes, str]] = {
        "pdf": (PDF, "format_unsupported"),
        "svg": (SVG, "format_unsupported"),
        "gif_of_10000_frames": (gif(10_000), "format_unsupported"),
        "text": (b"hello, this is no photo at all", "format_unsupported"),
        "truncated_jpeg": (truncated(encode(photo, "JPEG")), "image_corrupt"),
        "truncated_png": (truncated(encode(photo, "PNG")), "image_corrupt"),
        "one_pixel": (encode(photo.resize((1, 1)), "PNG"), "image_too_small"),
        "narrow": (encode(photo.resize((31, 400)), "JPEG"), "image_too_small"),
        "float_pixels": (encode(photo.convert("F"), "TIFF"), "mode_unsupported"),
        "32_bit_pixels": (encode(photo.convert("I"), "TIFF"), "mode_unsupported"),
        "multi_frame": (_dicom_of_two_frames(), "multi_frame"),
        "many_scans": (many_scans(64, 100), "image_too_many_scans"),
        "arithmetic_jpeg": (with_frame(encode(photo, "JPEG"), 0xC9), "format_unsupported"),
        "tiff_10_bit": (tiff(64, 64, bytes(64 * 80), bits=10), "mode_unsupported"),
        "tiff_tile_bomb": (tiff(64, 64, more={259: 8, 322: 26_000, 323: 26_000, 324: 8, 325: 100}), "image_too_many_pixels"),
        "50_mb": (bytes(50_000_000), "image_too_many_bytes"),
    }
    files |= {f"bomb_{name.lower()}": (data, "image_too_many_pixels") for name, data in bombs().items()}
    texts: dict[str, tuple[Any, str]] = {
        "null": (None, "image_missing"),
        "nan": (float("nan"), "image_missing"),
        "number": (5, "image_type"),
        "list": ([1, 2], "image_type"),
        "empty_text": ("", "image_empty"),
        "empty_bytes": (b"", "image_empty"),
        "empty_data_uri": ("data:image/png;base64,", "image_empty"),
        "wrong_base64": ("this is not base64!", "base64_invalid"),
        "cut_base64": (base64_text(bytes(300) + b"JPEG")[:-3], "base64_invalid"),
        "object": ({"b64": base64_text(encode(photo, "JPEG"))}, "image_type"),
    }
    return texts | files


def _dicom_of_two_frames() -> bytes:
    """One of those that come with pydicom."""
    import pydicom

    return (Path(pydicom.__file__).parent / "data" / "test_files" / "SC_rgb_rle_2frame.dcm").read_bytes()


def _sixteen_bits(pixels: np.ndarray) -> np.ndarray:
    """The high byte is the 8-bit value and the low byte another, so that one cannot pass for the other."""
    high = pixels.astype(np.uint16)
    return high * 256 + (255 - high)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
