import base64
from typing import Any

import numpy as np
import pandas as pd
import pytest

from model_code import payload
from model_code.errors import ImageError
from model_code.payload import image_bytes
from tests.support.photos import base64_text

DATA = bytes(range(256)) * 4
TEXT = base64_text(DATA)
LIMIT = 10_000


@pytest.mark.parametrize(
    "cell",
    [
        DATA,
        bytearray(DATA),
        memoryview(DATA),
        TEXT,
        np.str_(TEXT),
        f"  {TEXT}\n",
        base64.encodebytes(DATA).decode(),
        base64.encodebytes(DATA).decode().replace("\n", "\r\n"),
        f"data:image/jpeg;base64,{TEXT}",
        f"data:image/jpeg;name=eye.jpg;base64,{TEXT}",
        f"data:;base64,{TEXT}",
        f"DATA:image/jpeg;BASE64,{TEXT}",
        base64.urlsafe_b64encode(DATA).decode(),
        TEXT.rstrip("="),
        base64.urlsafe_b64encode(DATA).decode().rstrip("="),
        f'"{TEXT}"',
        f"'{TEXT}'",
        f' "{TEXT}"\n',
        repr(base64.b64encode(DATA)),
        f'"data:image/jpeg;base64,{TEXT}"',
        f"data:image/jpeg;base64,{base64.urlsafe_b64encode(DATA).decode().rstrip('=')}",
    ],
)
def test_every_accepted_form_gives_the_same_bytes(cell: Any) -> None:
    assert image_bytes(cell, LIMIT) == DATA


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        (None, "image_missing"),
        (float("nan"), "image_missing"),
        (np.float64("nan"), "image_missing"),
        (pd.NA, "image_missing"),
        (pd.NaT, "image_missing"),
        (5, "image_type"),
        (5.0, "image_type"),
        (True, "image_type"),
        ([1, 2], "image_type"),
        ({"a": 1}, "image_type"),
        (np.zeros(4, np.uint8), "image_type"),
        ("", "image_empty"),
        (" \n", "image_empty"),
        (b"", "image_empty"),
        (bytearray(), "image_empty"),
        ("data:image/png;base64,", "image_empty"),
        ("A", "base64_invalid"),
        ("QUJ", "base64_invalid"),
        ("QUJD*", "base64_invalid"),
        ("QQ==QQ==", "base64_invalid"),
        ("QR", "base64_invalid"),
        ("QUJDR", "base64_invalid"),
        ('"QUJD', "base64_invalid"),
        ("b'QUJD", "base64_invalid"),
        ("QQ=", "base64_invalid"),
        ("''", "image_empty"),
        ('{"b64": "QUJD"}', "image_type"),
        ("{'b64': 'QUJD'}", "image_type"),
        ("olé!", "base64_invalid"),
        ("data:image/png,raw", "base64_invalid"),
        ("data:image/png;base64", "base64_invalid"),
    ],
    ids=repr,
)
def test_every_other_form_is_refused_with_its_code(cell: Any, code: str) -> None:
    with pytest.raises(ImageError) as refused:
        image_bytes(cell, LIMIT)
    assert refused.value.code == code


def test_bytes_of_every_length_are_read_without_padding() -> None:
    for size in range(1, 50):
        text = base64_text(DATA[:size])
        assert image_bytes(text.rstrip("="), LIMIT) == image_bytes(text, LIMIT) == DATA[:size]


def test_an_object_is_answered_with_the_right_form() -> None:
    for cell in ({"b64": TEXT}, str({"b64": TEXT})):
        with pytest.raises(ImageError, match=r'Expected its base64 text alone: {"image": "<base64 text>"}'):
            image_bytes(cell, LIMIT)


@pytest.mark.parametrize("text", ["None", "nan"])
def test_a_null_that_mlflow_turned_into_text_is_missing(text: str) -> None:
    """A null in `instances` and `inputs` reaches the model as text."""
    with pytest.raises(ImageError) as refused:
        image_bytes(text, LIMIT)
    assert refused.value.code == "image_missing"


@pytest.mark.parametrize("size", [LIMIT - 2, LIMIT - 1, LIMIT])
def test_a_file_up_to_the_limit_is_accepted_in_every_form(size: int) -> None:
    data = bytes(size)
    wrapped = base64.encodebytes(data).decode()
    for cell in (data, base64_text(data), f"data:image/png;base64,{base64_text(data)}", wrapped):
        assert image_bytes(cell, LIMIT) == data


@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT + 2, LIMIT + 3, 3 * LIMIT])
def test_a_file_above_the_limit_is_refused_in_every_form(size: int) -> None:
    data = bytes(size)
    for cell in (data, base64_text(data), f"data:image/png;base64,{base64_text(data)}", base64.encodebytes(data).decode()):
        with pytest.raises(ImageError, match=f"the limit is {LIMIT:,}") as refused:
            image_bytes(cell, LIMIT)
        assert refused.value.code == "image_too_many_bytes"


def test_a_text_far_above_the_limit_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> bytes:
        raise AssertionError("the text was decoded")

    monkeypatch.setattr(payload.base64, "b64decode", fail)
    with pytest.raises(ImageError) as refused:
        image_bytes("A" * 4 * LIMIT, LIMIT)
    assert refused.value.code == "image_too_many_bytes"


@pytest.mark.parametrize("cell", ["SECRETsecret!", "data:image/SECRETsecret,x", {"SECRET": "secret"}, ["SECRETsecret"]])
def test_a_refusal_never_repeats_what_was_sent(cell: Any) -> None:
    with pytest.raises(ImageError) as refused:
        image_bytes(cell, LIMIT)
    assert "secret" not in str(refused.value).lower()
