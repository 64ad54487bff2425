import json
from pathlib import Path
from typing import Any

import pytest

from model_code.canary import TOLERANCE, canary_photo, differences, expected_answer, write_expected_answer
from model_code.classifier import Classifier
from model_code.package import CANARY_ANSWER, CANARY_PHOTO
from model_code.settings import ServingSettings
from tests.support.photos import PACKAGE, SAMPLES, encode, fundus

EXPECTED = {
    "predicted_class": "normal",
    "confidence": 0.8,
    "prob_normal": 0.8,
    "prob_cataract": 0.2,
    "decision": "report",
    "gradable": True,
    "out_of_distribution": None,
}


def test_the_expected_answer_is_written_without_what_changes_each_time(tmp_path: Path) -> None:
    changing = {"prediction_id": "x", "inference_time_ms": 3.2, "model_version": "4", "image_id": None, "error": None}
    write_expected_answer(tmp_path, EXPECTED | changing)
    assert expected_answer(tmp_path) == EXPECTED


def test_the_same_answer_has_no_differences() -> None:
    assert differences(EXPECTED | {"prediction_id": "x"}, EXPECTED) == []


@pytest.mark.parametrize("change", [-0.9, -0.5, 0.5, 0.9])
def test_numbers_within_the_tolerance_are_the_same(change: float) -> None:
    assert differences(EXPECTED | {"confidence": 0.8 + change * TOLERANCE}, EXPECTED) == []


@pytest.mark.parametrize(
    ("column", "actual"),
    [
        ("predicted_class", "cataract"),
        ("predicted_class", None),
        ("confidence", 0.8 + 2 * TOLERANCE),
        ("confidence", 0.8 - 2 * TOLERANCE),
        ("confidence", None),
        ("confidence", float("nan")),
        ("confidence", "0.8"),
        ("prob_cataract", 0.3),
        ("decision", "review"),
        ("gradable", False),
        ("gradable", None),
        ("out_of_distribution", False),
    ],
)
def test_another_answer_is_named_with_both_values(column: str, actual: Any) -> None:
    assert differences(EXPECTED | {column: actual}, EXPECTED) == [f"{column} is {actual!r}, expected {EXPECTED[column]!r}"]


def test_a_missing_column_differs() -> None:
    without = {name: value for name, value in EXPECTED.items() if name != "confidence"}
    assert differences(without, EXPECTED) == ["confidence is None, expected 0.8"]


def test_every_difference_is_named() -> None:
    assert len(differences({}, EXPECTED)) == len([value for value in EXPECTED.values() if value is not None])


def test_the_bundled_model_answers_its_canary_as_expected() -> None:
    answer = Classifier(PACKAGE, "1", ServingSettings.from_env({})).classify(canary_photo(PACKAGE)).answer
    expected = expected_answer(PACKAGE)
    assert set(expected) >= {"predicted_class", "confidence", "decision"}
    assert differences(answer, expected) == []
    assert json.loads((PACKAGE / CANARY_ANSWER).read_text()) == expected


def test_the_bundled_canary_tells_a_broken_model_from_a_good_one() -> None:
    """Another photo must not pass for the canary, or the check would prove nothing."""
    classifier = Classifier(PACKAGE, "1", ServingSettings.from_env({}))
    others = [encode(fundus(400, seed), "JPEG") for seed in range(3)]
    for other in (*others, *(path.read_bytes() for path in SAMPLES.glob("not_a_fundus_*.jpg"))):
        assert differences(classifier.classify(other).answer, expected_answer(PACKAGE))


def test_the_canary_in_the_package_is_the_sample() -> None:
    assert canary_photo(PACKAGE) == (SAMPLES / CANARY_PHOTO).read_bytes()
