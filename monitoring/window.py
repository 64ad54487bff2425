"""The records of one version since the last judged window, read once and in bounded memory."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from monitoring.points import PREDICTION_COLUMNS
from monitoring.store import RecordStore
from profiles.layout import Layout
from profiles.profile import Profile, profile_columns

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


def read_window(store: RecordStore, after: int, layout: Layout, records: int) -> Window:
    """The records of the commits after `after`, of which there are `records` or less. Raises OSError."""
    every = max(1, -(-records // MAX_SHOWN))
    shown_columns = [*PREDICTION_COLUMNS, *(f"prob_{name}" for name in layout.classes)]
    known = set(store.columns())
    wanted = [*profile_columns(layout), *shown_columns, "model_load_time_seconds"]
    profile, seen, load_time = Profile.empty(layout), 0, None
    shown: list[pa.Table] = []
    for batch in store.read_batches([name for name in dict.fromkeys(wanted) if name in known], after=after, canary=True):
        profile = profile.merge(Profile.from_table(batch, layout))
        load_time = batch["model_load_time_seconds"][len(batch) - 1].as_py()
        traffic = batch.filter(pc.invert(batch["canary"].fill_null(False)))
        index = np.arange(seen, seen + len(traffic))
        chosen = index % every == 0
        columns = [traffic[name] if name in known else pa.nulls(len(traffic), pa.float64()) for name in shown_columns]
        table = pa.table([*columns, pa.array(index)], names=[*shown_columns, "index"])
        shown.append(table.filter(pa.array(chosen)))
        seen += len(traffic)
    return Window(profile, seen, pa.concat_tables(shown) if shown else _nothing(shown_columns), every, load_time)


def _nothing(columns: list[str]) -> pa.Table:
    types = {"timestamp": pa.timestamp("us", "UTC"), "index": pa.int64()}
    return pa.schema([(name, types.get(name, pa.float64())) for name in [*columns, "index"]]).empty_table()
