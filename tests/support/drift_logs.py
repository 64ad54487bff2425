"""Inference logs and references made of synthetic records, for the job as a whole."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from eye_disease.profiles.reference import REFERENCE_FILE, Reference
from tests.support.drift_records import CLASSES
from tests.support.logs import MODEL, prediction_id, record


def write_log(log: Path, records: pa.Table, start: datetime, process: str, version: str = "1") -> None:
    """The lines that a served version would have written, one prediction a second from `start` on, below `log`."""
    folder = log / MODEL / version
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{start:%Y%m%dT%H}-{process}.jsonl").open("a") as file:
        for i, row in enumerate(records.to_pylist()):
            time = start + timedelta(seconds=i)
            kept = {name: value for name, value in row.items() if name not in ("timestamp", "prediction_id")}
            made = record(i, time, process, CLASSES, model_version=version, prediction_id=prediction_id(time), **kept)
            file.write(json.dumps(made) + "\n")


def give_reference(state_dir: Path, reference: Reference, version: str = "1") -> None:
    """As if it had been fetched from the registry before."""
    folder = state_dir / "packages" / MODEL / version
    folder.mkdir(parents=True)
    reference.save(folder / REFERENCE_FILE)
