"""The photos that a specialist's time is spent on: answered lately and at hand; those that teach most, and some by lot."""

import math
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
BY_LOT = 0.25
"""Share of the list that is drawn by lot from all candidates. Only these tell how good the answers are: the others were chosen
because they are difficult."""
_DISAGREE, _DRIFTED, _UNFAMILIAR, _REVIEW = 1.0, 0.5, 0.5, 0.25
"""What each reason adds to the uncertainty, 0..1."""


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


def choose(photos: pd.DataFrame, limit: int, rng: np.random.Generator) -> pd.DataFrame:
    """At most `limit` rows of `candidates`, with the columns `by_lot` and `reason`, in mixed order, so that nobody judges a
    photo by the reason why it is shown.

    Those drawn by lot are drawn with equal chances from all, so that they stand for all without weights. One that was judged
    before because it is difficult may be among them and is then looked at again, or the lot would fall on easy ones more often.
    """
    drawn = rng.choice(len(photos), min(len(photos), math.ceil(limit * BY_LOT)), replace=False)
    lot = photos.iloc[np.sort(drawn)]
    rest = photos.drop(index=lot.index)
    rest = rest[~rest["judged"].astype(bool)]
    value = usefulness(rest)
    chosen = rest.loc[value.sort_values(ascending=False, kind="stable").index[: limit - len(lot)]]
    lot = lot.assign(by_lot=True, reason="drawn by lot, to measure how good the answers are")
    chosen = chosen.assign(by_lot=False, reason=[reason(row) for _, row in chosen.iterrows()])
    listed = pd.concat([chosen, lot])
    return listed.iloc[rng.permutation(len(listed))]


def usefulness(photos: pd.DataFrame) -> pd.Series:
    """How much a label would teach, 0 and more: little margin (Scheffer et al., IDA 2001), versions that disagree, a site whose
    photos have drifted, an unknown camera, an answer that was sent to review anyway."""
    return (
        (1 - photos["margin"].astype(float))
        + _DISAGREE * photos["disagree"].astype(bool)
        + _DRIFTED * photos["drifted"].astype(bool)
        + _UNFAMILIAR * photos["unfamiliar_camera"].eq(True)
        + _REVIEW * (photos["decision"] == "review")
    )


def reason(photo: pd.Series) -> str:
    """Why a photo is on the list, a phrase."""
    phrases = [
        ("versions of the model disagree", bool(photo["disagree"])),
        ("its site's photos have changed", bool(photo["drifted"])),
        ("a camera that the model does not know", bool(photo["unfamiliar_camera"] == 1)),
        ("something outside the model's classes", bool(photo["other_finding"] == 1)),
        ("the model sends it to review", photo["decision"] == "review"),
        ("two classes are almost equally probable", float(photo["margin"]) < 0.3),
    ]
    return "; ".join(phrase for phrase, holds in phrases if holds) or "little is known about photos like it"


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
