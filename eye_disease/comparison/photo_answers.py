"""Answers of two versions to the same photos, and their labels: joined by the photo's SHA-256.

A label is given to one prediction, but says what the photo shows, so it holds for every version that has seen this photo: a
shadow's answers reach nobody who could label them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from eye_disease.evaluation.paired import Outcomes
from eye_disease.records.labels import Labels
from eye_disease.records.store import RecordStore

_TYPES = {
    "image_sha256": pa.string(),
    "prediction_id": pa.string(),
    "timestamp": pa.timestamp("us", "UTC"),
    "predicted_class": pa.string(),
    "confidence": pa.float64(),
    "decision": pa.string(),
}
_ANSWER = ["predicted_class", "confidence", "decision"]


@dataclass(frozen=True)
class PhotoAnswers:
    """One row a photo, indexed by its SHA-256; of several answers by one version the last counts."""

    both: pd.DataFrame
    """Photos that both answered, or tried to: `predicted_class` and `confidence` of each with the suffix _champion or
    _challenger, `label`; null where there was an error, or no label"""
    champion: pd.DataFrame
    """Labelled photos of the compared time that only the champion had: `predicted_class`, `confidence`, `label`"""
    challenger: pd.DataFrame
    """The same of the challenger"""

    @cached_property
    def agreement(self) -> np.ndarray:
        """bool (n,): whether they gave the same class, on photos that both could answer."""
        answered = self.both.dropna(subset=["predicted_class_champion", "predicted_class_challenger"])
        return (answered["predicted_class_champion"] == answered["predicted_class_challenger"]).to_numpy(bool)

    def outcomes(self, label: str | None = None) -> Outcomes:
        """Of all labelled photos, or of those that show one class."""

        def chosen(table: pd.DataFrame) -> pd.DataFrame:
            return table[table["label"].notna() if label is None else table["label"] == label]

        both = chosen(self.both)
        champion, challenger = (_right(both, f"_{role}") for role in ("champion", "challenger"))
        return Outcomes(
            won=int((challenger & ~champion).sum()),
            lost=int((champion & ~challenger).sum()),
            same=int((champion == challenger).sum()),
            champion=_wrong_and_right(chosen(self.champion)),
            challenger=_wrong_and_right(chosen(self.challenger)),
        )

    def labelled(self, role: str) -> pa.Table:
        """`predicted_class`, `confidence`, `decision` and `label` of all labelled photos of `champion` or `challenger`."""
        names = {f"{name}_{role}": name for name in _ANSWER}
        both = self.both[self.both["label"].notna()][[*names, "label"]].rename(columns=names)
        table = pd.concat([both, getattr(self, role)[[*_ANSWER, "label"]]], ignore_index=True)
        return pa.Table.from_pandas(
            table, pa.schema([(n, _TYPES.get(n, pa.string())) for n in table.columns]), preserve_index=False
        )


def read_photo_answers(
    champion: RecordStore, challenger: RecordStore, labels: Labels, start: datetime, end: datetime
) -> PhotoAnswers:
    """start, end: the time in which both served; photos that one alone had count within it only. Raises OSError, StoreError.

    Holds in memory the challenger's photos, and of the champion's those that the challenger had too or that have a label.
    """
    labels = labels.representative()
    ids = pa.array(list(labels.current), pa.string())
    theirs = _read(challenger, lambda batch: pc.is_valid(batch["image_sha256"]))
    photos = pa.array(theirs["image_sha256"].unique(), pa.string())

    def needed(batch: pa.RecordBatch) -> pa.Array:
        mask = pc.or_(pc.is_in(batch["image_sha256"], value_set=photos), pc.is_in(batch["prediction_id"], value_set=ids))
        return pc.and_(mask, pc.is_valid(batch["image_sha256"]))

    ours = _read(champion, needed)
    truth = _labels_by_photo(pd.concat([ours, theirs]), labels)
    last = [table.drop_duplicates("image_sha256", keep="last").set_index("image_sha256") for table in (ours, theirs)]
    both = last[0].add_suffix("_champion").join(last[1].add_suffix("_challenger"), how="inner").join(truth)
    alone = [side[~side.index.isin(both.index)].join(truth, how="inner") for side in last]
    alone = [side[(side["timestamp"] >= start) & (side["timestamp"] < end)] for side in alone]
    return PhotoAnswers(both, *alone)


def _read(store: RecordStore, chosen: Callable[[pa.RecordBatch], pa.Array]) -> pd.DataFrame:
    """The wanted records in the order of their timestamps."""
    batches = [batch.filter(chosen(batch)) for batch in store.read_batches(list(_TYPES))]
    records: pd.DataFrame = pa.Table.from_batches(batches, pa.schema(_TYPES)).to_pandas()
    return records.sort_values("timestamp", kind="stable")


def _labels_by_photo(records: pd.DataFrame, labels: Labels) -> pd.Series:
    """SHA-256 -> label; where predictions of one photo were labelled differently the latest statement counts."""
    labelled = records[records["prediction_id"].isin(list(labels.current))]
    statements = [labels.current[key] for key in labelled["prediction_id"]]
    table = pd.DataFrame(
        {"label": [label.label for label in statements], "at": [label.at for label in statements]}, labelled["image_sha256"]
    )
    table = table.sort_values("at", kind="stable")
    return table[~table.index.duplicated(keep="last")]["label"].astype("str")


def _right(table: pd.DataFrame, suffix: str = "") -> pd.Series:
    return (table[f"predicted_class{suffix}"] == table["label"]).astype(bool)


def _wrong_and_right(table: pd.DataFrame) -> tuple[int, int]:
    right = int(_right(table).sum())
    return len(table) - right, right
