"""The metrics' names and the points written under them."""

import math
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

PREDICTION_COLUMNS = ("timestamp", "confidence", "inference_time_ms")
"""What `prediction_points` reads beside `prob_<class>`."""
PREDICTION_METRICS = {
    "prediction_count": "How many of the version's predictions there were, this one included.",
    "prediction_confidence": "Confidence of the answer.",
    "prediction_inference_time_ms": "Decoding, preprocessing and network.",
    "prob_<class>": "Calibrated probability of each class.",
}
"""Of each prediction; its step is its number. Of a window with very many, every n-th; the run's description says so."""
WINDOW_METRICS = {
    "session_avg_confidence": "Mean confidence.",
    "session_avg_inference_time_ms": "Mean inference time.",
    "session_predictions": "Photos, with an answer or an error.",
    "recent_low_confidence_ratio": "Share of answers with low confidence.",
    "drift_detected": "1 if the verdict is `drift`.",
    "drift_lasting": "What comes nearest to drift in the newest windows together, as a share of its limit.",
    "error_count": "Photos with an error.",
    "model_load_time_seconds": "From the start of the last process to a model that was ready.",
    "health_check_response_time_ms": "Answer of the served model's `/ping`.",
    "estimated_accuracy": "By the calibrated confidence.",
    "realised_accuracy": "By the labels of predictions of the last 30 days.",
    "realised_error_among_reported": "Of labelled answers with decision `report`, the share that is wrong; last 30 days.",
    "realised_error_among_reported_low": "Lower end of its exact 95 % interval.",
    "realised_error_among_reported_high": "Upper end.",
    "realised_missed": "Of labelled photos with a disease, the share that was reported as normal; last 30 days.",
    "realised_missed_low": "Lower end of its exact 95 % interval.",
    "realised_missed_high": "Upper end.",
    "promised_error_among_reported": "What the version's package promises of `report`.",
    "realised_calibration_error": "Of labelled answers of the last 30 days.",
    "drift/<stream>": "Each stream as a share of its limit, 1 and more: beyond it; streams of one kind share a metric.",
}
"""Of each window; its step is its number."""
_NAMES = {"confidence": "prediction_confidence", "inference_time_ms": "prediction_inference_time_ms"}


class Point(NamedTuple):
    """One value of one metric."""

    name: str
    value: float
    timestamp_ms: int
    """Of the data, milliseconds since 1970 UTC."""
    step: int


def metric_name(text: str) -> str:
    """`text` as MLflow allows it in a metric's name."""
    return re.sub(r"[^\w.\- :/]", "_", text)[:250]


def prediction_points(records: pa.Table, classes: tuple[str, ...], steps: Iterable[int]) -> Iterator[Point]:
    """The points of each record, which is a step of its own; a photo with an error has only `prediction_count`.

    records: PREDICTION_COLUMNS and `prob_<class>`. steps: for each, how many of the version's records came before.
    """
    times = pc.divide(records["timestamp"].cast(pa.int64()), 1000).to_pylist()
    columns = _NAMES | {f"prob_{name}": metric_name(f"prob_{name}") for name in classes}
    values = {name: records[column].to_pylist() for column, name in columns.items()}
    for row, (time, step) in enumerate(zip(times, steps, strict=True)):
        yield Point("prediction_count", step + 1, time, step)
        yield from (Point(name, column[row], time, step) for name, column in values.items() if column[row] is not None)


def window_points(values: dict[str, float | None], timestamp_ms: int, step: int) -> list[Point]:
    """Points of a window's figures, name -> value; those that are null or not finite are left out."""
    finite = {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}
    return [Point(metric_name(name), value, timestamp_ms, step) for name, value in finite.items()]
