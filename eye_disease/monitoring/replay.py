"""Does a photo still get the answer that is on record? Asked of the very version that gave it."""

import hashlib
import json
import logging
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from eye_disease.common.errors import UserError
from eye_disease.common.mlflow_client import tracking_call
from eye_disease.common.model_process import ModelProcessError, ask
from eye_disease.records.labels import BETWEEN_ID_AND_RECORD, FeedbackError, prediction_uuid, time_of
from eye_disease.records.state_file import StateFileError
from eye_disease.records.storage import Storage
from eye_disease.records.store import RecordStore, StoreError, find_stores
from eye_disease.registry.versions import FetchedVersion, VersionError
from model_code.canary import differences

_logger = logging.getLogger(__name__)
_COMPARED = ("predicted_class", "confidence", "decision", "gradable", "out_of_distribution", "error_code")


class ReplayError(UserError):
    """The answer cannot be asked for again; the message says why."""


@dataclass(frozen=True)
class Replayed:
    """What came of a replay."""

    record: dict[str, Any]
    answer: dict[str, Any]
    differences: list[str]
    """What differs, a sentence each; numbers within 0.01 are the same, since processors round differently."""

    @property
    def same(self) -> bool:
        """Whether the photo still gets its answer."""
        return not self.differences


def replay(
    storage: Storage, prediction_id: str, image: bytes, timeout_seconds: float = 300.0, mlflow_timeout_seconds: int = 10
) -> Replayed:
    """Fetch the version that answered and let it answer again, in a process of its own with the code of that version.

    image: the image file, byte for byte. timeout_seconds: for the answer; mlflow_timeout_seconds: for one request to the
    registry of MLFLOW_TRACKING_URI. Raises ReplayError: unknown id, another photo, a record without photo, a version that is
    in no registry, gone or does not run here; TrackingUnavailableError.
    """
    record = find_record(storage, prediction_id)
    _require_same_photo(record, image)
    name, version = record["model_name"], record["model_version"]
    if not version.isdecimal():
        raise ReplayError(f"The answer came from a model that is in no registry ({version}), so it cannot be fetched.")
    with tempfile.TemporaryDirectory() as folder:
        try:
            with tracking_call(mlflow_timeout_seconds):
                fetched = FetchedVersion.fetch(name, version, Path(folder))
            answer = ask(fetched.folder, image, timeout_seconds)
        except (VersionError, ModelProcessError) as error:
            raise ReplayError(f"models:/{name}/{version} could not be fetched or run: {error}") from error
    compared = {column: record[column] for column in record if column in _COMPARED or column.startswith("prob_")}
    return Replayed(record, answer, differences(answer, compared))


def find_record(storage: Storage, prediction_id: str) -> dict[str, Any]:
    """The record of a prediction, from any model and version; ingested or still in a segment. Raises ReplayError."""
    try:
        prediction_id = str(prediction_uuid(prediction_id))
        answered = time_of(prediction_id)
    except FeedbackError as error:
        raise ReplayError(str(error)) from error
    for store in find_stores(storage):
        try:
            record = _in_store(store, prediction_id, answered)
        except (StoreError, StateFileError, OSError) as error:  # another one may have it
            _logger.error("%s version %s is left out: %s", store.model, store.version, error)
            continue
        if record is not None:
            return record
    raise ReplayError(
        f"No record of prediction {prediction_id} is in {storage.location}. Check the id and INFERENCE_LOG_DIR; "
        "records older than --keep-days are gone."
    )


def _in_store(store: RecordStore, prediction_id: str, answered: datetime) -> dict[str, Any] | None:
    snapshot = store.snapshot()
    start, end = answered - BETWEEN_ID_AND_RECORD, answered + BETWEEN_ID_AND_RECORD
    for batch in snapshot.read_batches(snapshot.schema.names, start=start, end=end, canary=True) if snapshot.classes else ():
        ids = batch["prediction_id"].to_pylist()
        if prediction_id in ids:
            return dict(batch.slice(ids.index(prediction_id), 1).to_pylist()[0])
    for name in store.storage.files(store.folder):
        segment = f"{store.folder}/{name}"
        if name.endswith(".jsonl") and (record := _in_segment(store.storage.read(segment), prediction_id)):
            return record
    return None


def _in_segment(content: bytes, prediction_id: str) -> dict[str, Any] | None:
    for line in content.splitlines():
        if prediction_id.encode() in line:
            try:
                record: dict[str, Any] = json.loads(line)
            except ValueError:  # a torn line, which ingest sets aside
                continue
            if record.get("prediction_id") == prediction_id:
                return record
    return None


def _require_same_photo(record: dict[str, Any], image: bytes) -> None:
    recorded, sent = record["image_sha256"], hashlib.sha256(image).hexdigest()
    if recorded is None:
        raise ReplayError(
            f"The request held no image file (error {record['error_code']}), so there is nothing to compare with."
        )
    if recorded != sent:
        raise ReplayError(
            f"This is another photo: its SHA-256 is {sent[:12]}..., that of the record {recorded[:12]}... "
            "Give the file as it was sent, byte for byte."
        )
