"""The API of a served model as an OpenAPI document, made from the one schema that the model itself follows."""

from typing import Any

import yaml
from mlflow.types import DataType

from model_code.image_error import ERROR_CODES
from model_code.schema import ANSWER_COLUMNS, DECISIONS, PARAM_MEANINGS, PARAMS, REQUEST_COLUMNS, answer_types

CLASSES = ("cataract", "diabetic_retinopathy", "glaucoma", "normal")
"""Of the bundled model; one of your own has `prob_<class>` of its own classes."""
_HEAD = """# Made from the schema by: eye-disease openapi > docs/openapi.yaml
"""
_TYPES = {DataType.string: "string", DataType.double: "number", DataType.boolean: "boolean"}
_CODES = "; ".join(f"{code}: {meaning}" for code, meaning in ERROR_CODES.items())


def document(classes: tuple[str, ...] = CLASSES) -> dict[str, Any]:
    """OpenAPI 3.1 of `mlflow models serve` with a version of this project; of nginx before it, see deploy/README.md."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Eye-disease classifier",
            "version": "1",
            "description": "Photos of the retina in, calibrated answers out, all on record. For research, no medical device.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {"/invocations": {"post": _invocations()}, "/ping": {"get": _ping()}},
        "components": {"schemas": _schemas(classes), "securitySchemes": _keys()},
    }


def text(classes: tuple[str, ...] = CLASSES) -> str:
    """The document as YAML."""
    return _HEAD + yaml.safe_dump(document(classes), sort_keys=False, width=120, allow_unicode=True)


def _invocations() -> dict[str, Any]:
    return {
        "summary": "Classify photos",
        "description": "A bad photo costs its own row, never its neighbours'; there is no NaN. `X-Api-Key` is asked for by "
        "the stack's proxy, not by the model server itself.",
        "operationId": "classify",
        "security": [{}, {"ApiKey": []}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _ref("Request"), "example": {"dataframe_records": [{"image": "<base64 text>"}]}},
                "text/csv": {
                    "schema": {"type": "string", "description": "header with `image` (base64), and if wanted image_id, site"}
                },
                "application/vnd.apache.parquet": {
                    "schema": {"type": "string", "format": "binary", "description": "the same columns; `image` as bytes"}
                },
            },
        },
        "responses": {
            "200": _response("One answer a photo, in order", "Answers"),
            "400": _response("No table with a column `image`, too many rows, or a bad row with `strict`", "Error"),
            "401": _response("From the proxy: X-Api-Key is missing or unknown", "ProxyError"),
            "413": _response("From the proxy: larger than 64 MiB", "ProxyError"),
            "415": _unsupported(),
            "429": _response("From the proxy: too many requests", "ProxyError"),
            "503": _response("More photos wait than are answered in time", "Error")
            | {"headers": {"Retry-After": {"schema": {"type": "integer", "minimum": 1}, "description": "seconds"}}},
            "504": {"description": "No answer within 60 s"},
        },
    }


def _ping() -> dict[str, Any]:
    answer = {"description": "The model is loaded and has answered its canary photo", "content": {"application/json": {}}}
    return {"summary": "Is it up?", "operationId": "ping", "security": [{}], "responses": {"200": answer}}


def _schemas(classes: tuple[str, ...]) -> dict[str, Any]:
    kinds = {name: _TYPES[kind] for name, kind in answer_types(classes).items()}
    always = ("prediction_id", "model_version")
    answer = {name: _column(name, kind, nullable=name not in always) for name, kind in kinds.items()}
    answer["decision"] |= {"enum": [*DECISIONS, None]}
    answer["predicted_class"] |= {"enum": [*classes, None]}
    heatmap = {"type": ["string", "null"], "contentEncoding": "base64", "contentMediaType": "image/png"}
    return {
        "Row": _object({"image": _IMAGE, "image_id": _text("image_id"), "site": _text("site")}, "image"),
        "Params": _object({name: _param(name, default) for name, default in PARAMS.items()}),
        "Request": {"oneOf": [_form(name, schema) for name, schema in _forms().items()]},
        "Answer": _object(answer | {"heatmap_png": heatmap | {"description": "with `explain`"}}, *answer),
        "Answers": _object({"predictions": {"type": "array", "items": _ref("Answer")}}, "predictions"),
        "Error": _object({"error_code": {"type": "string"}, "message": {"type": "string"}}, "error_code", "message"),
        "ProxyError": _object({"error": {"type": "string"}}, "error"),
    }


_IMAGE = {
    "type": "string",
    "contentEncoding": "base64",
    "description": REQUEST_COLUMNS["image"],
}


def _forms() -> dict[str, dict[str, Any]]:
    """Name of each JSON form -> schema of its value."""
    rows = {"type": "array", "items": _ref("Row"), "minItems": 1}
    names = {
        "type": "array",
        "items": {"enum": ["image", "image_id", "site"]},
        "contains": {"const": "image"},
        "uniqueItems": True,
    }
    cells = {"type": "array", "items": {"type": "array", "items": {"type": ["string", "null"]}}}
    columns = {name: {"type": "array", "items": {"type": ["string", "null"]}} for name in ("image", "image_id", "site")}
    return {
        "dataframe_records": rows,
        "dataframe_split": _object({"columns": names, "data": cells}, "columns", "data"),
        "instances": rows,
        "inputs": _object(columns, "image"),
    }


def _form(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return _object({name: schema, "params": _ref("Params")}, name) | {"title": name}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}


def _column(name: str, kind: str, nullable: bool) -> dict[str, Any]:
    _, meaning = ANSWER_COLUMNS.get(name) or ANSWER_COLUMNS["prob_<class>"]
    meaning = f"{meaning} {_CODES}" if name == "error_code" else meaning
    return {"type": [kind, "null"] if nullable else kind, "description": meaning}


def _param(name: str, default: bool) -> dict[str, Any]:
    return {"type": "boolean", "default": default, "description": PARAM_MEANINGS[name]}


def _text(column: str) -> dict[str, Any]:
    return {"type": ["string", "null"], "description": REQUEST_COLUMNS[column]}


def _response(meaning: str, schema: str) -> dict[str, Any]:
    return {"description": meaning, "content": {"application/json": {"schema": _ref(schema)}}}


def _unsupported() -> dict[str, Any]:
    response = _response("Content-Type is none of the three (JSON where there is none at all)", "Error")
    response["content"]["text/plain"] = {"schema": {"type": "string"}}
    return response


def _keys() -> dict[str, Any]:
    return {"ApiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "of the stack's proxy"}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
