"""Bad photos through a real server: each costs its own row, the workers live on and do not grow."""

import io
import json
import socket
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.support.photos import bad_cells, corrupt_exif, corrupt_icc, encode, fundus, half_transparent, sixteen_bit
from tests.support.servers import Served, read_records

FIFTY_MEGABYTES = 50 * 2**20


def _sendable() -> dict[str, tuple[Any, str]]:
    """The bad cells that JSON can carry, less the huge one, which has a test of its own."""
    return {name: case for name, case in bad_cells().items() if name not in {"nan", "list", "50_mb"}}


def _is_answered(answer: dict[str, Any]) -> bool:
    return answer["error_code"] is None and answer["predicted_class"] is not None


def _resident_megabytes(served: Served) -> dict[int, float]:
    """Of each process of the server."""
    pages = {pid: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in served.workers()}
    return {pid: count * 4096 / 2**20 for pid, count in pages.items()}


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


def _forms(rows: list[dict[str, Any]], **params: bool) -> dict[str, tuple[bytes, str]]:
    """The same rows in every payload form; params where the form carries them."""
    table, parquet = pd.DataFrame(rows), io.BytesIO()
    table.to_parquet(parquet)
    in_json = {
        "dataframe_split": table.to_dict("split"),
        "dataframe_records": rows,
        "inputs": table.to_dict("list"),
        "instances": rows,
    }
    bodies = {form: json.dumps({form: data, "params": params}).encode() for form, data in in_json.items()}
    return {form: (body, "application/json") for form, body in bodies.items()} | {
        "csv": (table.to_csv(index=False).encode(), "text/csv"),
        "parquet": (parquet.getvalue(), "application/vnd.apache.parquet"),
    }


@pytest.mark.parametrize("params", [{}, {"strict": True}, {"explain": True}], ids=["plain", "strict", "explain"])
def test_a_request_of_too_many_rows_is_refused_whole_in_every_form(served: Served, params: dict[str, bool]) -> None:
    before = len(read_records(served.records))
    for form, (body, content_type) in _forms([{"image": "PATIENT", "image_id": "PATIENT"}] * 1_001, **params).items():
        status, text = served.post(body, content_type)
        assert (form, status) == (form, 400)
        assert (
            "too_many_rows: the request has 1,001 rows, the limit is 1,000, and none is answered" in json.loads(text)["message"]
        )
        assert "PATIENT" not in text
        assert len(text) < 1_000
    assert len(read_records(served.records)) == before


def test_two_hundred_thousand_rows_cost_neither_memory_nor_log(served: Served) -> None:
    body = b'{"dataframe_split":{"columns":["image"],"data":[' + b",".join([b'[""]'] * 200_000) + b"]}}"
    before, records = max(_resident_megabytes(served).values()), len(read_records(served.records))
    for _ in range(2):
        assert served.post(body)[0] == 400
    assert max(_resident_megabytes(served).values()) < before + 400  # MLflow's own table of them
    assert len(read_records(served.records)) == records


def test_the_workers_neither_die_nor_grow(served: Served) -> None:
    cells = [cell for cell, _ in _sendable().values()]

    for _ in range(10):
        served.classify(*cells)
    before = _resident_megabytes(served)
    for _ in range(40):
        served.classify(*cells)
    after = _resident_megabytes(served)
    assert after.keys() == before.keys()
    assert max(after[pid] - before[pid] for pid in before) < 100


PHOTO = "UEFUSUVOVFBBVElFTlRQQVRJRU5U" * 20
OTHER_FORMS: dict[str, Any] = {
    "another column": {"dataframe_records": [{"picture": PHOTO}]},
    "capitals": {"dataframe_records": [{"Image": PHOTO}]},
    "no column names": {"dataframe_split": {"data": [[PHOTO]]}},
    "the photo as the column's name": {"dataframe_split": {"columns": [PHOTO], "data": [["x"]]}},
    "TF Serving row": {"instances": [{"b64": PHOTO}]},
    "TF Serving with a signature's name": {"signature_name": "serving_default", "instances": [{"image_bytes": {"b64": PHOTO}}]},
    "TF Serving texts": {"instances": [PHOTO]},
    "TF Serving columns": {"inputs": {"image_bytes": [{"b64": PHOTO}]}},
    "TF Serving pixels": {"instances": [[[[0.1, 0.2, 0.3]] * 4] * 4]},
    "KServe v2": {"id": "1", "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [PHOTO]}]},
    "KServe v2 pixels": {"inputs": [{"name": "x", "shape": [1, 2, 2, 3], "datatype": "FP32", "data": [0.5] * 12}]},
    "nothing known": {"rows": [{"image": PHOTO}]},
    "a list": [{"image": PHOTO}],
    "a number": 5,
}


@pytest.mark.parametrize("name", OTHER_FORMS)
def test_another_form_is_answered_with_the_right_one_and_without_the_photo(served: Served, name: str) -> None:
    status, text = served.post(json.dumps(OTHER_FORMS[name]).encode())
    assert status == 400
    assert '{"instances": [{"image": "<base64 text>"}]}' in json.loads(text)["message"]
    assert PHOTO[:28] not in text
    assert "Traceback" not in text


def test_bodies_that_are_no_table_are_refused_without_being_repeated(served: Served) -> None:
    for body, content_type in (
        (b'{"instances": [{"image": "' + PHOTO.encode(), "application/json"),
        (b"\xff\xd8" + PHOTO.encode(), "application/json"),
        (PHOTO.encode() + b'\n"x', "text/csv"),
        (PHOTO.encode(), "application/vnd.apache.parquet"),
    ):
        status, text = served.post(body, content_type)
        assert (status, PHOTO[:28] in text, "Traceback" in text) == (400, False, False)
        assert len(text) < 2_000


def test_a_wrong_param_is_named(served: Served) -> None:
    status, text = served.post(json.dumps({"instances": [{"image": PHOTO}], "params": {"explain": "yes"}}).encode())
    assert (status, "explain" in text, PHOTO[:28] in text) == (400, True, False)


def test_a_request_without_a_content_type_is_told_what_is_expected(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2]))) as connection:
        connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert answer.startswith("HTTP/1.1 415 ")
    assert "has no Content-Type. Expected application/json" in answer


def test_the_servers_log_holds_no_column_names_and_no_photos(served: Served) -> None:
    served.post(json.dumps({"dataframe_records": [{"image": "", PHOTO: "x"}], "params": {PHOTO: 1}}).encode())
    assert PHOTO[:28] not in served.output.read_text()
