"""The contracts: request columns and params, answer columns, record fields. Change them here only."""

from typing import Any

from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from model_code.embedding import LOGGED_COMPONENTS
from model_code.quality import STATISTICS

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
"""explain: add `heatmap_png`. strict: any bad row makes the whole request fail with HTTP 400."""


EXPECTED = (
    'Expected a table with a column `image`, as {"dataframe_records": [{"image": "<base64 text>"}]} or {"instances": [{"image":'
    ' "<base64 text>"}]}. TensorFlow Serving\'s {"b64": "<base64 text>"}, tensors, and the tensors of KServe\'s v2 protocol'
    ' ({"name": ..., "datatype": ..., "data": ["<base64 text>"]}) are not read: send their base64 text in that form.'
)
"""What a request looks like, for those who have sent another."""


DICOM_FACTS = ("laterality", "device_model", "pixel_height_mm", "pixel_width_mm")
"""What a record may hold of a DICOM header: `L`, `R` or `B`; the camera's model; the size of a pixel. Nothing else."""


def answer_types(classes: tuple[str, ...]) -> dict[str, DataType]:
    """Answer column -> type, in order. `heatmap_png` follows when asked for."""
    return {
        "prediction_id": DataType.string,
        "image_id": DataType.string,
        "predicted_class": DataType.string,
        "confidence": DataType.double,
        **{f"prob_{name}": DataType.double for name in classes},
        "decision": DataType.string,
        "low_confidence": DataType.boolean,
        "other_finding": DataType.boolean,
        "other_finding_score": DataType.double,
        "gradable": DataType.boolean,
        "out_of_distribution": DataType.boolean,
        "ood_score": DataType.double,
        "unfamiliar_camera": DataType.boolean,
        "inference_time_ms": DataType.double,
        "model_version": DataType.string,
        "error": DataType.string,
        "error_code": DataType.string,
    }


def empty_answer(classes: tuple[str, ...]) -> dict[str, Any]:
    """An answer row with every column null."""
    return dict.fromkeys(answer_types(classes))


def empty_facts() -> dict[str, Any]:
    """The fields that a record has beside the answer and the log's own, all null."""
    names = ("site", "image_sha256", "image_bytes", "width", "height", "format", "file_defect", *DICOM_FACTS, *STATISTICS)
    return dict.fromkeys(names) | {f"embedding_{i}": None for i in range(1, LOGGED_COMPONENTS + 1)} | {"canary": False}


def signature(classes: tuple[str, ...]) -> ModelSignature:
    """The MLflow signature of a model with these classes.

    `image` is declared as a string so that every payload reaches the model as it was sent, bytes included; and as optional,
    so that a table without it reaches the model too: MLflow's own refusal repeats the request, photos and all.
    """
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "image", required=False),
        ColSpec(DataType.string, "image_id", required=False),
        ColSpec(DataType.string, "site", required=False),
    ]
    outputs: list[ColSpec | TensorSpec] = [ColSpec(kind, name, required=False) for name, kind in answer_types(classes).items()]
    params = [ParamSpec(name, DataType.boolean, default) for name, default in PARAMS.items()]
    return ModelSignature(Schema(inputs), Schema(outputs), ParamSchema(params))
