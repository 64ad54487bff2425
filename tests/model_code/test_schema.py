import json

import pytest
from mlflow.exceptions import MlflowException
from mlflow.types import DataType

from model_code.embedding import LOGGED_COMPONENTS
from model_code.errors import ERROR_CODES, ImageError, InferenceLogError, RequestError, StrictRequestError
from model_code.package import ModelFacts
from model_code.quality import STATISTICS
from model_code.schema import DECISIONS, PARAMS, answer_types, empty_answer, empty_facts, signature
from tests.support.photos import PACKAGE

CLASSES = ("a", "b")


def test_the_answer_has_the_agreed_columns_in_order() -> None:
    assert list(answer_types(CLASSES)) == [
        "prediction_id",
        "image_id",
        "predicted_class",
        "confidence",
        "prob_a",
        "prob_b",
        "decision",
        "low_confidence",
        "other_finding",
        "other_finding_score",
        "gradable",
        "out_of_distribution",
        "ood_score",
        "unfamiliar_camera",
        "inference_time_ms",
        "model_version",
        "error",
        "error_code",
    ]
    assert DECISIONS == ("report", "review", "retake")


def test_an_empty_answer_has_every_column_null() -> None:
    assert empty_answer(CLASSES) == dict.fromkeys(answer_types(CLASSES))


def test_a_record_has_facts_of_the_file_the_image_and_the_embedding() -> None:
    facts = empty_facts()
    assert {"site", "image_sha256", "image_bytes", "width", "height", "format", *STATISTICS} < set(facts)
    assert [name for name in facts if name.startswith("embedding_")] == [
        f"embedding_{i}" for i in range(1, LOGGED_COMPONENTS + 1)
    ]
    assert facts.pop("canary") is False
    assert set(facts.values()) == {None}


def test_answer_and_facts_share_no_name() -> None:
    assert not set(answer_types(CLASSES)) & set(empty_facts())


def test_empty_rows_are_not_shared() -> None:
    empty_facts()["site"] = "x"
    empty_answer(CLASSES)["error"] = "x"
    assert empty_facts()["site"] is None
    assert empty_answer(CLASSES)["error"] is None


def test_the_signature_takes_an_image_as_text_and_optional_names() -> None:
    inputs = signature(CLASSES).inputs
    assert [(column.name, column.type, column.required) for column in inputs.inputs] == [
        ("image", DataType.string, False),
        ("image_id", DataType.string, False),
        ("site", DataType.string, False),
    ]


def test_the_signature_lists_every_answer_column_as_nullable() -> None:
    outputs = signature(CLASSES).outputs
    assert {column.name: column.type for column in outputs.inputs} == answer_types(CLASSES)
    assert not any(column.required for column in outputs.inputs)


def test_the_params_are_switches_that_are_off() -> None:
    params = signature(CLASSES).params
    assert [(param.name, param.dtype, param.default) for param in params.params] == [
        ("explain", DataType.boolean, False),
        ("strict", DataType.boolean, False),
    ]
    assert PARAMS == {"explain": False, "strict": False}


def test_the_signature_is_json() -> None:
    assert json.dumps(signature(ModelFacts.load(PACKAGE).classes).to_dict(), allow_nan=False)


@pytest.mark.parametrize("code", ERROR_CODES)
def test_every_error_code_is_explained(code: str) -> None:
    assert ERROR_CODES[code].endswith(".")
    assert ImageError(code, "problem").code == code


def test_an_error_code_that_is_not_documented_cannot_be_given() -> None:
    with pytest.raises(KeyError, match="unknown error code 'oops'"):
        ImageError("oops", "problem")


@pytest.mark.parametrize(("kind", "status"), [(RequestError, 400), (StrictRequestError, 400), (InferenceLogError, 503)])
def test_a_refused_request_has_its_status_and_keeps_its_message(kind: type[MlflowException], status: int) -> None:
    """The scoring server puts the request's data before the message of an error."""
    error = kind("what is wrong")
    error.message = f"Failed to predict data 'patient 4711'. {error.message}"
    assert error.get_http_status_code() == status
    assert error.message == "what is wrong"
    assert "4711" not in error.serialize_as_json()
