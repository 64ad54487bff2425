"""The records of one version since the last judged window, read once and in bounded memory."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eye_disease.monitoring.metrics import PREDICTION_COLUMNS
from eye_disease.profiles.layout import Layout
from eye_disease.profiles.profile import Profile, profile_columns
from eye_disease.records.store import RecordStore, StoreSnapshot

MAX_SHOWN = 2_000
"""Predictions of one window whose own points go to MLflow, which takes some thousand metrics a second."""


@dataclass(frozen=True)
class Window:
    """What a window holds; the canary's own records are left out."""

    profile: Profile
    predictions: int
    shown: pa.Table
    """Columns PREDICTION_COLUMNS, `prob_<class>` and `index`, the record's place in the window: MAX_SHOWN at most"""
    every: int
    """One prediction in how many is in `shown`"""
    load_time_seconds: float | None
    """Of the model, as the last record tells"""


def read_window(store: RecordStore | StoreSnapshot, after: int, layout: Layout, records: int) -> Window:
    """The records of the commits after `after`, of which there are `records` or less. Raises StoreError, OSError."""
    every = max(1, -(-records // MAX_SHOWN))
    shown_columns = [*PREDICTION_COLUMNS, *(f"prob_{name}" for name in layout.classes)]
    snapshot = store.snapshot()
    known = set(snapshot.schema.names)
    wanted = [*profile_columns(layout), *shown_columns, "model_load_time_seconds"]
    profile, seen, load_time = Profile.empty(layout), 0, None
    shown: list[pa.Table] = []
    batches = snapshot.read_batches([name for name in dict.fromkeys(wanted) if name in known], after=after, canary=True)
    for batch in _read_ahead(batches):
        profile = profile.merge(Profile.from_table(batch, layout))
        load_time = batch["model_load_time_seconds"][len(batch) - 1].as_py()
        traffic = np.flatnonzero(pc.invert(batch["canary"].fill_null(False)).to_numpy(zero_copy_only=False))
        index = np.arange(seen, seen + len(traffic))
        chosen = index % every == 0
        places = pa.array(traffic[chosen])
        columns = [batch[name].take(places) if name in known else pa.nulls(len(places), pa.float64()) for name in shown_columns]
        shown.append(pa.table([*columns, pa.array(index[chosen])], names=[*shown_columns, "index"]))
        seen += len(traffic)
    return Window(profile, seen, pa.concat_tables(shown) if shown else _nothing(shown_columns), every, load_time)


def _read_ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches; the next one is read while one is worked on."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _nothing(columns: list[str]) -> pa.Table:
    types = {"timestamp": pa.timestamp("us", "UTC"), "index": pa.int64()}
    return pa.schema([(name, types.get(name, pa.float64())) for name in [*columns, "index"]]).empty_table()
