"""Inference logs made up for the tests: records as the served model writes them."""

import json
import random
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from model_code.schema import SCHEMA_VERSION, empty_answer, empty_facts

CLASSES = ("cataract", "diabetic_retinopathy", "glaucoma", "normal")
MODEL = "eye-disease-classifier"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def prediction_id(time: datetime) -> str:
    """A UUIDv7 of that time."""
    return str(uuid.UUID(int=int(time.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | random.getrandbits(62)))


def record(
    sequence: int, time: datetime = NOON, process: str = "p0", classes: tuple[str, ...] = CLASSES, **changes: Any
) -> dict:
    """One record; the first class is predicted with confidence 0.7."""
    rest = 0.3 / (len(classes) - 1)
    answer = {f"prob_{name}": rest for name in classes[1:]} | {f"prob_{classes[0]}": 0.7, "predicted_class": classes[0]}
    return {
        "timestamp": time.isoformat(timespec="microseconds"),
        "process_id": process,
        "sequence": sequence,
        "lost_records": 0,
        **empty_answer(classes),
        **answer,
        "prediction_id": prediction_id(time),
        "confidence": 0.7,
        "decision": "report",
        "low_confidence": False,
        "other_finding": False,
        "other_finding_score": 0.1,
        "gradable": True,
        "out_of_distribution": False,
        "ood_score": 0.5,
        "unfamiliar_camera": False,
        "inference_time_ms": 12.5,
        "model_version": "1",
        **empty_facts(),
        "image_sha256": uuid.uuid4().hex * 2,
        "brightness": 100.0 + sequence,
        "model_name": MODEL,
        "run_id": "run-1",
        "model_source": "registry",
        "role": "champion",
        "model_load_time_seconds": 0.25,
        "schema_version": SCHEMA_VERSION,
    } | changes


def failed(sequence: int, code: str = "image_corrupt", **changes: Any) -> dict:
    """The record of a photo that could not be answered."""
    made = record(sequence)
    kept = {name: None for name in made if name in empty_answer(CLASSES) and name not in ("prediction_id", "model_version")}
    return made | kept | {"error": "wrong", "error_code": code} | changes


def append(folder: Path, *records: dict, segment: str = "") -> Path:
    """Append records to the segment of the first one's hour and process."""
    folder.mkdir(parents=True, exist_ok=True)
    hour = datetime.fromisoformat(records[0]["timestamp"]).strftime("%Y%m%dT%H")
    path = folder / (segment or f"{hour}-{records[0]['process_id']}.jsonl")
    with path.open("ab") as file:
        file.writelines(json.dumps(one).encode() + b"\n" for one in records)
    return path


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)
