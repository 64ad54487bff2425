"""Bad photos through a real server: each costs its own row, the workers live on and do not grow."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.photos import bad_cells, corrupt_exif, corrupt_icc, encode, fundus, half_transparent, sixteen_bit
from tests.support.servers import Served

FIFTY_MEGABYTES = 50 * 2**20


def _sendable() -> dict[str, tuple[Any, str]]:
    """The bad cells that JSON can carry, less the huge one, which has a test of its own."""
    return {name: case for name, case in bad_cells().items() if name not in {"nan", "list", "50_mb"}}


def _is_answered(answer: dict[str, Any]) -> bool:
    return answer["error_code"] is None and answer["predicted_class"] is not None


def test_each_bad_photo_costs_its_own_row(served: Served, retina: bytes) -> None:
    bad = _sendable()
    cells = [cell for case in bad.values() for cell in (case[0], retina)]
    answers = served.classify(*cells)
    assert {name: answer["error_code"] for name, answer in zip(bad, answers[::2], strict=True)} == {
        name: code for name, (_, code) in bad.items()
    }
    assert all(_is_answered(answer) for answer in answers[1::2])
    for answer in answers[::2]:
        kept = {"prediction_id", "image_id", "model_version", "error", "error_code"}
        assert {name for name, value in answer.items() if value is not None} <= kept
        assert answer["error"]


def test_odd_but_good_photos_are_answered(served: Served) -> None:
    photo = fundus()
    odd = {
        "cmyk": encode(photo.convert("CMYK"), "JPEG"),
        "grey": encode(photo.convert("L"), "JPEG"),
        "palette": encode(photo.convert("P"), "PNG", transparency=0),
        "transparent": encode(half_transparent(photo, "RGBA"), "PNG"),
        "sixteen_bit": encode(sixteen_bit(photo), "PNG"),
        "webp": encode(photo, "WEBP"),
        "tiff": encode(photo, "TIFF"),
        "bmp": encode(photo, "BMP"),
        "corrupt_exif": corrupt_exif("JPEG"),
        "corrupt_icc": corrupt_icc("PNG"),
    }
    answers = served.classify(*odd.values())
    assert {name: answer["error"] for name, answer in zip(odd, answers, strict=True)} == dict.fromkeys(odd)


def test_a_fifty_megabyte_file_is_refused(served: Served, retina: bytes) -> None:
    huge, good = served.classify(b"\xff\xd8\xff" + bytes(FIFTY_MEGABYTES), retina)
    assert huge["error_code"] == "image_too_many_bytes"
    assert "MAX_IMAGE_BYTES" in huge["error"]
    assert _is_answered(good)


def test_ten_thousand_rows_are_answered_up_to_the_limit(served: Served, retina: bytes) -> None:
    rows = [{"image": base64.b64encode(retina).decode()}] + [{"image": None, "image_id": str(i)} for i in range(1, 10_000)]
    status, answer = served.post(json.dumps({"dataframe_records": rows}).encode())
    assert status == 200
    answers = answer["predictions"]
    assert _is_answered(answers[0])
    assert [one["error_code"] for one in answers[1:1000]] == ["image_missing"] * 999
    assert [one["error_code"] for one in answers[1000:]] == ["too_many_rows"] * 9000
    assert [one["image_id"] for one in answers[1:]] == [str(i) for i in range(1, 10_000)]


def test_the_workers_neither_die_nor_grow(served: Served) -> None:
    cells = [cell for cell, _ in _sendable().values()]

    def resident_megabytes() -> dict[int, float]:
        pages = {pid: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in served.workers()}
        return {pid: count * 4096 / 2**20 for pid, count in pages.items()}

    for _ in range(10):
        served.classify(*cells)
    before = resident_megabytes()
    for _ in range(40):
        served.classify(*cells)
    after = resident_megabytes()
    assert after.keys() == before.keys()
    assert max(after[pid] - before[pid] for pid in before) < 100


@pytest.mark.parametrize("column", ["picture", "Image"])
def test_a_wrong_column_name_is_refused(served: Served, column: str) -> None:
    status, text = served.post(json.dumps({"dataframe_records": [{column: "aGVsbG8="}]}).encode())
    assert status == 400
    assert "image" in text
