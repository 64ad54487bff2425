"""The API's description: of the schema, current, and true of a real server."""

import base64
import json
from typing import Any

import pytest
import requests
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator

from eye_disease.serving.openapi import document, text
from model_code.image_error import ERROR_CODES
from model_code.schema import DECISIONS, PARAMS, answer_types
from tests.support.logs import CLASSES
from tests.support.servers import PROJECT, Served

FILE = PROJECT / "docs" / "openapi.yaml"
EXAMPLES = 25
"""Requests made up for each operation: enough for every form, in seconds."""


def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": document()["components"]})


def test_the_file_is_current() -> None:
    assert FILE.read_text() == text(), "Make it anew: eye-disease openapi > docs/openapi.yaml"


def test_it_names_every_column_param_and_code() -> None:
    described = yaml.safe_load(FILE.read_text())["components"]["schemas"]
    assert [*described["Answer"]["properties"]] == [*answer_types(CLASSES), "heatmap_png"]
    assert [*described["Params"]["properties"]] == [*PARAMS]
    assert all(code in described["Answer"]["properties"]["error_code"]["description"] for code in ERROR_CODES)
    assert described["Answer"]["properties"]["decision"]["enum"] == [*DECISIONS, None]
    assert all(column["description"] for column in described["Answer"]["properties"].values())


@pytest.mark.parametrize("photo", ["retina", "bad"])
@pytest.mark.parametrize("form", ["dataframe_records", "dataframe_split", "instances", "inputs"])
def test_each_form_is_described_and_answered_as_described(served: Served, retina: bytes, form: str, photo: str) -> None:
    image = base64.b64encode(retina).decode() if photo == "retina" else "no photo"
    body = {
        "dataframe_records": [{"image": image}],
        "dataframe_split": {"columns": ["image"], "data": [[image]]},
        "instances": [{"image": image}],
        "inputs": {"image": [image]},
    }[form]
    request = {form: body, "params": {"explain": True}}
    _validator("Request").validate(request)
    status, answer = served.post(json.dumps(request).encode())
    assert status == 200
    _validator("Answers").validate(answer)
    assert (answer["predictions"][0]["error"] is None) == (photo == "retina")


def test_a_real_server_answers_made_up_requests_as_described(served: Served) -> None:
    """Schemathesis makes requests of the description and holds the answers against it."""
    import schemathesis
    from schemathesis.checks import CHECKS

    schema = schemathesis.openapi.from_dict(json.loads(json.dumps(document())))
    wanted = {"not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"}
    checks = [check for check in CHECKS.get_all() if check.__name__ in wanted]
    assert len(checks) == len(wanted)
    seen: list[int] = []
    for result in schema.get_all_operations():
        operation = result.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def answered(case: Any) -> None:
            response = case.call(base_url=served.url)
            seen.append(response.status_code)
            case.validate_response(response, checks=checks)

        answered()
    assert {200} <= set(seen) <= {200, 400, 415}, sorted(set(seen))


def test_what_is_no_request_is_refused_as_described(served: Served) -> None:
    for content_type, body, status in (
        ("application/json", b"{}", 400),
        ("text/plain", b"x", 415),
        ("application/json", b"[", 400),
    ):
        response = requests.post(f"{served.url}/invocations", body, headers={"Content-Type": content_type}, timeout=30)
        assert response.status_code == status
        described = document()["paths"]["/invocations"]["post"]["responses"][str(status)]["content"]
        kind = response.headers["Content-Type"].partition(";")[0]
        assert kind in described
        if kind == "application/json":
            _validator("Error").validate(response.json())
