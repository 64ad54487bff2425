"""The photos that may be looked at: answered lately, in the clinic's own folder, and not labelled by chance yet."""

from collections.abc import Collection
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from eye_disease.profiles.profile import NO_SITE
from eye_disease.records.labels import Labels
from eye_disease.records.storage import Storage
from eye_disease.records.store import RecordStore, find_stores

_COLUMNS = [
    *("prediction_id", "timestamp", "image_sha256", "site", "model_version", "predicted_class", "confidence", "decision"),
    *("other_finding", "unfamiliar_camera", "gradable"),
]


def candidates(
    storage: Storage,
    model: str,
    labels: Labels,
    files: dict[str, Path],
    since: datetime,
    drifted: Collection[tuple[str, str]] = (),
) -> pd.DataFrame:
    """One row a photo, newest first, indexed by its SHA-256; of several answers the last counts.

    files: SHA-256 -> file, of the clinic's folder; drifted: versions and sites whose last window drifted. Columns: those of the
    record, `prob_<class>`, `margin` (between the two most probable classes, 0..1), `disagree` (whether versions named different
    classes), `drifted`, `file`, `judged` (labelled before, since it was difficult: the lot may still fall on it).
    Raises OSError, StoreError.
    """
    stores = [store for store in find_stores(storage) if store.model == model and store.state().classes]
    tables = [_answers(store, since) for store in stores]
    answers = pd.concat(tables).sort_values("timestamp", kind="stable") if tables else pd.DataFrame(columns=_COLUMNS)
    labelled = _photos(answers, labels.representative())
    difficult = _photos(answers, labels) - labelled
    answers = answers[answers["image_sha256"].isin(list(files)) & ~answers["image_sha256"].isin(labelled)]
    if answers.empty:
        return answers.set_index("image_sha256")
    by_photo = answers.groupby("image_sha256")
    photos = answers.drop_duplicates("image_sha256", keep="last").set_index("image_sha256")
    photos["disagree"] = by_photo["predicted_class"].nunique() > 1
    sites = photos["site"].fillna(NO_SITE)
    photos["drifted"] = [place in drifted for place in zip(photos["model_version"], sites, strict=True)]
    photos["judged"] = photos.index.isin(difficult)
    photos["file"] = [str(files[digest]) for digest in photos.index]
    return photos.iloc[::-1]


def _photos(answers: pd.DataFrame, labels: Labels) -> set[str]:
    """SHA-256 of those that labels speak of."""
    return set(answers.loc[answers["prediction_id"].isin(list(labels.current)), "image_sha256"])


def _answers(store: RecordStore, since: datetime) -> pd.DataFrame:
    known = set(store.columns())
    probabilities = sorted(name for name in known if name.startswith("prob_"))
    columns = [name for name in _COLUMNS if name in known] + probabilities
    batches = list(store.read_batches(columns, start=since))
    if not batches:
        return pd.DataFrame(columns=_COLUMNS)
    records: pd.DataFrame = pa.Table.from_batches(batches).to_pandas()
    table = records.dropna(subset=["predicted_class", "image_sha256"])
    ranked = np.sort(table[probabilities].to_numpy(float), axis=1)
    return table.reindex(columns=[*_COLUMNS, *probabilities]).assign(margin=ranked[:, -1] - ranked[:, -2])
