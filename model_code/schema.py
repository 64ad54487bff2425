"""The contracts: request columns and params, answer columns, record fields. Change them here only."""

from typing import Any

from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from model_code.embedding import LOGGED_COMPONENTS

MODEL_NAME = "eye-disease-classifier"
SCHEMA_VERSION = 1
"""Of the inference log's records; counts up when a field changes its meaning or goes."""

DECISIONS = ("report", "review", "retake")
"""report: sure enough for the promise that the package keeps (model_code.decision). review: a specialist should look. retake:
not gradable or not like a fundus photo, which a new photo would mend."""

ROLES = ("champion", "challenger", "shadow")
"""champion: in Production. challenger: answers a share of the clients. shadow: answers nobody, its answers are only
recorded."""

PARAMS: dict[str, bool] = {"explain": False, "strict": False}
"""Param -> default."""


EXPECTED = (
    'Expected a table with a column `image`, as {"dataframe_records": [{"image": "<base64 text>"}]} or {"instances": [{"image":'
    ' "<base64 text>"}]}. TensorFlow Serving\'s {"b64": "<base64 text>"}, tensors, and the tensors of KServe\'s v2 protocol'
    ' ({"name": ..., "datatype": ..., "data": ["<base64 text>"]}) are not read: send their base64 text in that form.'
)
"""What a request looks like, for those who have sent another."""

DICOM_FACTS = ("laterality", "device_model", "pixel_height_mm", "pixel_width_mm")
"""All that a record may hold of a DICOM header."""

REQUEST_COLUMNS = {
    "image": "Needed: an image file, as base64 text (with or without a `data:` prefix) or as bytes where the payload has them.",
    "image_id": "Comes back in the answer and stands in the record, 256 characters at most: a pseudonym, never a name.",
    "site": "Clinic or camera; stands in the record.",
}
PARAM_MEANINGS = {
    "explain": "Adds `heatmap_png`: the photo with the region that speaks for the predicted class.",
    "strict": "One bad row makes the whole request fail with HTTP 400.",
}
_CLASS = "prob_<class>"
ANSWER_COLUMNS = {
    "prediction_id": (DataType.string, "UUIDv7; the key of the record."),
    "image_id": (DataType.string, "As sent."),
    "predicted_class": (DataType.string, "The likeliest class."),
    "confidence": (DataType.double, "Its calibrated probability."),
    _CLASS: (DataType.double, "Every class's calibrated probability."),
    "decision": (
        DataType.string,
        "`report`: sure enough for the promise that the package keeps. `review`: a specialist should look. `retake`: not "
        "gradable or not like a fundus photo, which a new photo would mend.",
    ),
    "low_confidence": (DataType.boolean, "Confidence below the model's limit."),
    "other_finding": (
        DataType.boolean,
        "Something outside the classes, which is never reported; null where the model has no such output.",
    ),
    "other_finding_score": (DataType.double, "Its calibrated chance."),
    "gradable": (
        DataType.boolean,
        "Looks like gradable photos, not like blurred, dark, over-exposed, covered, cropped ones.",
    ),
    "out_of_distribution": (DataType.boolean, "Unlike the training photos."),
    "ood_score": (DataType.double, "How unlike; above 1 is out of distribution."),
    "unfamiliar_camera": (DataType.boolean, "Looks as if taken by a camera that was not among the training photos."),
    "inference_time_ms": (DataType.double, "Decoding, preprocessing and network for this photo, milliseconds."),
    "model_version": (DataType.string, "Registered version, `bundled`, or `unregistered` (served from a run or a folder)."),
    "error": (DataType.string, "What is wrong with the photo; everything but the ids and `model_version` is then null."),
    "error_code": (DataType.string, "The same, as one of the error codes."),
}
"""Answer column -> type and meaning, in order; a column for each class stands where `prob_<class>` does."""
_EMBEDDING = "embedding_<n>"
FACT_FIELDS = {
    "site": "As sent.",
    "image_sha256": "SHA-256 of the file.",
    "image_bytes": "Size of the file.",
    "width": "Pixels, as stored.",
    "height": "Pixels, as stored.",
    "format": "JPEG, PNG, BMP, TIFF, WEBP or DICOM.",
    "file_defect": "What every viewer tolerates and was read all the same, such as a missing end marker.",
    "laterality": "Of a DICOM file: `L`, `R` or `B`.",
    "device_model": "Of a DICOM file: the camera's model.",
    "pixel_height_mm": "Of a DICOM file.",
    "pixel_width_mm": "Of a DICOM file.",
    "brightness": "Mean grey level of the field of view, 0..255.",
    "contrast": "Standard deviation of the grey level.",
    "sharpness": "Variance of the grey level's Laplacian.",
    "red": "Mean, 0..255.",
    "green": "Mean, 0..255.",
    "blue": "Mean, 0..255.",
    "field_of_view_share": "Lit share of the picture, 0..1.",
    _EMBEDDING: f"Principal component of the photo's embedding, 1 to {LOGGED_COMPONENTS}; enough to see drift.",
    "canary": "The photo is the canary: a probe, no traffic.",
}
"""Record field -> meaning: what a record has of the photo beside the answer."""
VERSION_FIELDS = {
    "model_name": "Registered name, or the package's.",
    "run_id": "MLflow run that logged the model.",
    "model_source": "`registry`, `cache`, `bundled`, or `direct` (not started by `serve.py`).",
    "role": "`champion`, `challenger` or `shadow` (MODEL_ROLE).",
    "model_load_time_seconds": "From the start of the process to a model that is ready.",
    "schema_version": "Of these fields.",
}
"""Record field -> meaning: of the served version, the same in every record of a process."""
LOG_FIELDS = {
    "timestamp": "When the record was written, ISO 8601 UTC.",
    "process_id": "Host, process and a suffix that is never used again.",
    "sequence": "Counts a process's records from 0; a gap is a loss.",
    "lost_records": "Records that this process could not write since its last one.",
}
"""Record field -> meaning: what the log adds."""


def answer_types(classes: tuple[str, ...]) -> dict[str, DataType]:
    """Answer column -> type, in order. `heatmap_png` follows when asked for."""
    types: dict[str, DataType] = {}
    for name, (kind, _) in ANSWER_COLUMNS.items():
        types |= dict.fromkeys((f"prob_{label}" for label in classes) if name == _CLASS else (name,), kind)
    return types


def empty_answer(classes: tuple[str, ...]) -> dict[str, Any]:
    """An answer row with every column null."""
    return dict.fromkeys(answer_types(classes))


def empty_facts() -> dict[str, Any]:
    """The fields that a record has beside the answer, the version's and the log's own, all null."""
    numbered = {f"embedding_{i}": None for i in range(1, LOGGED_COMPONENTS + 1)}
    return dict.fromkeys(name for name in FACT_FIELDS if name != _EMBEDDING) | numbered | {"canary": False}


def signature(classes: tuple[str, ...]) -> ModelSignature:
    """The MLflow signature of a model with these classes.

    `image` is declared as a string so that every payload reaches the model as it was sent, bytes included; and as optional,
    so that a table without it reaches the model too: MLflow's own refusal repeats the request, photos and all.
    """
    inputs: list[ColSpec | TensorSpec] = [ColSpec(DataType.string, name, required=False) for name in REQUEST_COLUMNS]
    outputs: list[ColSpec | TensorSpec] = [ColSpec(kind, name, required=False) for name, kind in answer_types(classes).items()]
    params = [ParamSpec(name, DataType.boolean, default) for name, default in PARAMS.items()]
    return ModelSignature(Schema(inputs), Schema(outputs), ParamSchema(params))
