"""What one photo may cost a real process: memory, time, and lines in its log."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model_code.decode import decode
from model_code.decode_process import WORKERS
from model_code.formats.header import MAX_DECODE_MEMORY
from model_code.image_error import ImageError
from tests.support.decoding import decode_apart
from tests.support.photos import PROJECT, encode, exif_of, fundus, many_scans, sixteen_bit, tiff, webp_claiming, with_exif

MEGABYTE = 2**20
BOUND = 256 * MEGABYTE
"""As docs/SERVING.md says: what a photo may take beside its request, the file itself and copies of it included."""


def _flat(mode: str, side: int, colour: object = 0) -> Image.Image:
    return Image.new(mode, (side, side), colour)


def test_the_memory_of_one_decode_is_bounded(tmp_path: Path) -> None:
    photos = {
        "tiff-tile": tiff(64, 64, more={259: 8, 322: 26_000, 323: 26_000, 324: 8, 325: 100}),
        "tiff-strip": encode(_flat("RGB", 4_800), "TIFF", compression="tiff_lzw", tiffinfo={278: 4_800}),
        "tiff-zstd": encode(_flat("RGB", 4_800), "TIFF", compression="zstd", tiffinfo={278: 4_800}),
        "tiff-jpeg": encode(_flat("RGB", 3_700), "TIFF", compression="jpeg", tiffinfo={278: 3_700}),
        "tiff-turned": encode(_flat("L", 7_000), "TIFF", compression="tiff_lzw", tiffinfo={274: 6}),
        "webp-claim": webp_claiming(7_070, 7_070),
        "webp-largest": encode(_flat("RGB", 2_850), "WEBP", lossless=True, quality=0, method=0),
        "png-palette": encode(_flat("P", 7_000, 7), "PNG", compress_level=1),
        "png-16-bit": encode(Image.fromarray(np.full((5_000, 5_000), 60_000, np.uint16)), "PNG", compress_level=1),
        "png-rgb": encode(_flat("RGB", 6_400), "PNG", compress_level=1),
        "png-rgba": encode(_flat("RGBA", 6_400, (9, 9, 9, 9)), "PNG", compress_level=1),
        "png-too-many": encode(_flat("RGB", 7_000), "PNG", compress_level=1),
        "jpeg": encode(_flat("RGB", 7_000), "JPEG"),
        "jpeg-progressive": encode(_flat("RGB", 7_000), "JPEG", progressive=True),
        "jpeg-cmyk": encode(_flat("CMYK", 4_500), "JPEG", progressive=True),
        "jpeg-exif": with_exif(encode(fundus(), "JPEG"), exif_of((0x9000 + i, 7, 60_000, 8) for i in range(5_000))),
    }
    results, _ = decode_apart(tmp_path, photos, timeout_seconds=60)
    assert set(results) == set(photos)
    assert {name: round(result["grown"] / MEGABYTE) for name, result in results.items() if result["grown"] > BOUND} == {}
    refused = {name for name, result in results.items() if result["code"]}
    assert refused == {"tiff-tile", "webp-claim", "png-too-many"}
    assert MAX_DECODE_MEMORY < BOUND


def test_a_photo_that_takes_too_long_is_given_up_in_time(tmp_path: Path) -> None:
    slow = {
        "png": encode(Image.fromarray(np.random.default_rng(1).integers(0, 256, (1_500, 1_500, 3), np.uint8)), "PNG"),
        "tiff": encode(_flat("RGB", 4_800), "TIFF", compression="tiff_lzw"),
        "webp": encode(_flat("RGB", 2_800), "WEBP", lossless=False, method=0),
        "progressive": many_scans(7_000, 50),
    }
    results, _ = decode_apart(tmp_path, slow, timeout_seconds=0.03)
    assert {name: result["code"] for name, result in results.items()} == dict.fromkeys(slow, "decode_timeout")
    assert max(result["seconds"] for result in results.values()) < 3


def test_nothing_that_a_photo_holds_is_written_to_the_log(tmp_path: Path) -> None:
    fax = encode(Image.new("1", (64, 3_000)), "TIFF", compression="group3")
    broken_fax = fax[:8] + bytes(b ^ 0x5A for b in fax[8:200]) + fax[200:]
    odd_exif = exif_of([(0x010E, 2, 4_000_000_000, 8), (0x0112, 7, 9, 9), *((0x8000 + i, 12, 5, 5) for i in range(500))])
    cut_lzw = bytearray(encode(fundus(), "TIFF", compression="tiff_lzw"))
    cut_lzw[60:2_000] = bytes(1_940)
    tags = {33_000 + i: 7 for i in range(2_000)}
    photos = {
        "fax": tiff(32, 30_000, bytes(100), more={259: 3, 278: 30_000, 279: 100}),
        "fax-broken": broken_fax,
        "lzw": bytes(cut_lzw),
        "jpeg-in-tiff": encode(fundus(), "TIFF", compression="jpeg")[:-2_000] + bytes(2_000),
        "tags": tiff(64, 64, bytes(512), more=tags),
        "exif": with_exif(encode(fundus(), "JPEG"), odd_exif),
        "exif-webp": encode(fundus(), "WEBP", exif=odd_exif),
        "exif-tiff": encode(fundus(), "TIFF", exif=odd_exif[:200]),
        "bomb": encode(Image.new("L", (64, 64)), "PNG")[:16] + b"\0\0\x40\0\0\0\x40\0" + bytes(60),
    }
    results, written = decode_apart(tmp_path, photos)
    assert set(results) == set(photos)
    assert written == ""


def _worker_of(data: bytes) -> int:
    decode(data, 448, 50_000_000)
    return WORKERS._idle[-1].pid


def test_a_worker_is_kept_and_a_crashed_one_replaced() -> None:
    data = encode(fundus(), "TIFF")
    first = _worker_of(data)
    assert _worker_of(data) == first
    os.kill(first, signal.SIGSEGV)
    time.sleep(0.2)
    with pytest.raises(ImageError, match="crashed") as refused:
        decode(data, 448, 50_000_000)
    assert refused.value.code == "image_corrupt"
    assert _worker_of(data) != first


def test_a_worker_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "photo.tif").write_bytes(encode(fundus(), "TIFF"))
    program = (
        "import os, sys; from pathlib import Path\n"
        "from model_code.decode import decode; from model_code.decode_process import WORKERS\n"
        "decode(Path(sys.argv[1]).read_bytes(), 448, 10**6); print(WORKERS._idle[0].pid, flush=True); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "photo.tif")]
    worker = int(subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False).stdout)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker}/cmdline").is_file() and Path(f"/proc/{worker}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_forked_process_has_workers_of_its_own() -> None:
    data = encode(sixteen_bit(fundus()), "TIFF")
    decode(data, 448, 50_000_000)
    idle = WORKERS._idle
    WORKERS._forget()
    try:
        assert decode(data, 448, 50_000_000).image.size == (300, 300)
        assert not set(idle) & set(WORKERS._idle)
    finally:
        WORKERS._close()
        WORKERS._idle = idle


def test_threads_have_a_worker_each_and_their_own_photos() -> None:
    photos = {side: encode(fundus(side), "TIFF") for side in range(100, 116)}
    with ThreadPoolExecutor(4) as executor:
        sizes = executor.map(lambda side: (side, decode(photos[side], 448, 50_000_000).image.size), list(photos) * 4)
        assert all(size == (side, side) for side, size in sizes)
    assert len(WORKERS._idle) <= 5
