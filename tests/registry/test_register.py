"""Which names a model may be registered under."""

from pathlib import Path

import pytest

from eye_disease.common.errors import UserError
from eye_disease.common.mlflow_client import quoted
from eye_disease.common.paths import BUNDLED_PACKAGE
from eye_disease.records.storage import Storage
from eye_disease.records.store import find_stores
from eye_disease.registry.register import check_name, register_package

FOLLOWED = ["eye-disease-classifier", "a'b", "Olho é bom", "Œil (2)", "眼科", "a_b.c", "R&D, 2+1", "7"]


@pytest.mark.parametrize("name", FOLLOWED)
def test_names_that_everything_follows(name: str, tmp_path: Path) -> None:
    check_name(name)
    folder = tmp_path / name / "1"
    folder.mkdir(parents=True)
    (folder / "host-1-2026.jsonl").write_text("")
    assert [(store.model, store.version) for store in find_stores(Storage(str(tmp_path)))] == [(name, "1")]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "_x",
        ".hidden",
        " a",
        "a ",
        "a\n",
        'a"b',
        "a#b",
        "a?b",
        "a%b",
        "a@b",
        "a/b",
        "a\\b",
        "..",
        "-a",
        "a.",
        "a\tb",
        "\x1b[31m",
    ],
)
def test_names_that_cannot_be_followed_are_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(UserError, match=r"^The model name '.*' cannot be used\. Expected letters") as refused:
        register_package(BUNDLED_PACKAGE, name)
    assert "\n" not in str(refused.value)
    assert "\x1b" not in str(refused.value)


def test_names_that_are_too_long_or_taken_by_locks() -> None:
    with pytest.raises(UserError, match=r"180 bytes long\. Expected 150 at most"):
        check_name("é" * 90)
    with pytest.raises(UserError, match="are locks"):
        check_name("eye.lock-1")
    check_name("eye.lock-x")


def test_quotes_of_a_search() -> None:
    assert quoted("ab") == "'ab'"
    assert quoted("a'b") == '"a\'b"'
    with pytest.raises(UserError, match="both kinds of quotes"):
        quoted("a'\"b")
