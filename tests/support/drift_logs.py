"""Inference logs and references made of synthetic records, for the job as a whole."""

import json
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from eye_disease.profiles.reference import REFERENCE_FILE, Reference
from model_code.package import FACTS_FILE
from model_code.promise import Promise
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


def give_promise(state_dir: Path, promise: Promise, version: str = "1") -> None:
    """As part of the package that `give_reference` gave; of its facts only the promise is of use to the job."""
    facts = {"promise": asdict(promise), "a field of another release": 7}
    (state_dir / "packages" / MODEL / version / FACTS_FILE).write_text(json.dumps(facts))


def give_reference(state_dir: Path, reference: Reference, version: str = "1") -> None:
    """As if it had been fetched from the registry before."""
    folder = state_dir / "packages" / MODEL / version
    folder.mkdir(parents=True)
    reference.save(folder / REFERENCE_FILE)
