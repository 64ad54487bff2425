"""Realised performance, from the labels that have come: accuracy, recall per class, calibration, errors among the reported."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from eye_disease.evaluation.shares import Share, calibration_error
from eye_disease.records.labels import BETWEEN_ID_AND_RECORD, Labels, time_of
from eye_disease.records.store import RecordStore, StoreSnapshot
from model_code.decision import HEALTHY

_COLUMNS = ["prediction_id", "predicted_class", "confidence", "decision"]


@dataclass(frozen=True)
class RealisedPerformance:
    """A version's performance on the predictions that have a label."""

    labelled: int
    """Answered predictions with a label."""
    correct: int
    """Those answered with their label."""
    accuracy: Share | None
    """None without labels, as the fields below."""
    recall: dict[str, Share]
    """Class -> share of its labelled photos that were answered so; classes without labelled photos are left out."""
    calibration_error: float | None
    """Expected calibration error, 15 bins of equal width (Guo et al., ICML 2017)."""
    unanswered: int
    """Labels of photos that had an error instead of an answer."""
    error_among_reported: Share | None = None
    """Wrong answers among those with decision `report`, with an exact interval; None without any that has a label."""
    missed: Share | None = None
    """Photos with a disease that were reported as healthy, with an exact interval; None without labels of a disease."""


@dataclass(frozen=True)
class Joined:
    """Labels joined to the records of every version."""

    versions: dict[str, RealisedPerformance]
    waiting: int
    """Labels whose prediction is not in the store: not ingested yet, expired, or never made here."""


def join(
    labels: Labels, stores: Iterable[RecordStore | StoreSnapshot], start: datetime | None = None, end: datetime | None = None
) -> Joined:
    """Join labels to the records of a model's versions; start, end: only predictions made from `start` on and before `end`.

    Labels of photos that a worklist chose because they are difficult say nothing of all photos and are left out.
    """
    labels = labels.representative()
    times = {prediction_id: time_of(prediction_id) for prediction_id in labels.current}
    ids = [
        prediction_id
        for prediction_id, time in times.items()
        if (start is None or time >= start) and (end is None or time < end)
    ]
    snapshots = [store.snapshot() for store in stores] if ids else []
    tables = {snapshot.store.version: _joined(labels, ids, times, snapshot) for snapshot in snapshots}
    joined = sum(table.num_rows for table in tables.values())
    return Joined({version: performance_of(table) for version, table in tables.items() if table.num_rows}, len(ids) - joined)


def _joined(labels: Labels, ids: list[str], times: dict[str, datetime], snapshot: StoreSnapshot) -> pa.Table:
    wanted = pa.array(ids, pa.string())
    first = min(times[prediction_id] for prediction_id in ids) - BETWEEN_ID_AND_RECORD
    last = max(times[prediction_id] for prediction_id in ids) + BETWEEN_ID_AND_RECORD
    batches = snapshot.read_batches(_COLUMNS, start=first, end=last) if snapshot.classes else ()
    rows = [batch.filter(pc.is_in(batch["prediction_id"], value_set=wanted)) for batch in batches]
    types = {"confidence": pa.float64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in _COLUMNS])
    table = pa.Table.from_batches([batch for batch in rows if batch.num_rows], schema=schema)
    truth = [labels.current[prediction_id].label for prediction_id in table["prediction_id"].to_pylist()]
    return table.append_column("label", pa.array(truth, pa.string()))


def performance_of(joined: pa.Table) -> RealisedPerformance:
    """Of predictions with labels: columns `predicted_class`, `confidence` and `decision`, null where there was an error, and
    `label`."""
    answered = joined.filter(pc.is_valid(joined["predicted_class"]))
    if not answered.num_rows:
        return RealisedPerformance(0, 0, None, {}, None, joined.num_rows)
    right = pc.equal(answered["predicted_class"], answered["label"]).to_numpy()
    truth, reported = answered["label"].to_numpy(), pc.equal(answered["decision"], "report").fill_null(False).to_numpy()
    missed = (reported & pc.equal(answered["predicted_class"], HEALTHY).to_numpy())[truth != HEALTHY]
    return RealisedPerformance(
        labelled=answered.num_rows,
        correct=int(right.sum()),
        accuracy=Share.of(right),
        recall={name: Share.of(right[truth == name]) for name in sorted(set(truth))},
        calibration_error=calibration_error(answered["confidence"].to_numpy(), right),
        unanswered=joined.num_rows - answered.num_rows,
        error_among_reported=Share.exact(~right[reported]) if reported.any() else None,
        missed=Share.exact(missed) if len(missed) and HEALTHY in {*truth, *answered["predicted_class"].to_pylist()} else None,
    )
