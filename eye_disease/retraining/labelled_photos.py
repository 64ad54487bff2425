"""Labels of predictions -> labels of photos. The log holds no photo, only the SHA-256 of the file that was sent."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from eye_disease.records.labels import BETWEEN_ID_AND_RECORD, Label, LabelBook, time_of
from eye_disease.records.storage import Storage
from eye_disease.records.store import find_stores
from eye_disease.registry.versions import list_versions


@dataclass(frozen=True)
class LabelledDigest:
    """What people say that a photo shows."""

    label: str
    at: datetime
    """When it was said last, UTC"""


@dataclass(frozen=True)
class Feedback:
    """Labels by photo."""

    photos: dict[str, LabelledDigest]
    """Hex SHA-256 of the file as sent -> its label"""
    contradictory: int
    """Photos left out because people differ on them"""
    waiting: int
    """Labelled predictions whose record is not in the store (yet), or names no photo"""


def read_feedback(storage: Storage, model: str) -> Feedback:
    """The labels of a model's predictions, whichever version made them. Raises OSError, StoreError."""
    statements = LabelBook(storage, model).statements()
    digests = _digests(storage, model, {statement.prediction_id for statement in statements})
    return join(statements, digests)


def labels_used_until(model: str) -> datetime | None:
    """Time of the newest label that a version of a model was retrained with; None if none was."""
    every = [version.tags for version in list_versions(model)]
    return max((datetime.fromisoformat(tags["feedback_until"]) for tags in every if "feedback_until" in tags), default=None)


def join(statements: Iterable[Label], digests: dict[str, str]) -> Feedback:
    """digests: prediction id -> SHA-256. Whoever corrects a label counts with the last; people who differ do not count."""
    by_photo: dict[str, dict[str, Label]] = defaultdict(dict)
    waiting = set()
    for statement in sorted(statements, key=lambda statement: statement.at):
        if statement.prediction_id in digests:
            by_photo[digests[statement.prediction_id]][statement.by] = statement
        else:
            waiting.add(statement.prediction_id)
    agreed = {
        digest: list(by.values()) for digest, by in by_photo.items() if len({statement.label for statement in by.values()}) == 1
    }
    photos = {
        digest: LabelledDigest(every[0].label, max(statement.at for statement in every)) for digest, every in agreed.items()
    }
    return Feedback(photos, len(by_photo) - len(photos), len(waiting))


def _digests(storage: Storage, model: str, ids: set[str]) -> dict[str, str]:
    """Prediction id -> SHA-256 of its photo, of those whose record is held; the canary is nobody's photo."""
    if not ids:
        return {}
    times, labelled = [time_of(prediction_id) for prediction_id in ids], pa.array(sorted(ids), pa.string())
    span = {"start": min(times) - BETWEEN_ID_AND_RECORD, "end": max(times) + BETWEEN_ID_AND_RECORD}
    digests: dict[str, str] = {}
    for store in find_stores(storage):
        if store.model != model or not store.state().classes:
            continue
        for batch in store.read_batches(["prediction_id", "image_sha256"], **span):
            matches = pc.and_(pc.is_in(batch["prediction_id"], value_set=labelled), pc.is_valid(batch["image_sha256"]))
            rows = batch.filter(matches)
            digests |= dict(zip(rows["prediction_id"].to_pylist(), rows["image_sha256"].to_pylist(), strict=True))
    return digests
