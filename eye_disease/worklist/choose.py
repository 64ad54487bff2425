"""Which photos a specialist's time is spent on: those that teach most, and some by lot."""

import math

import numpy as np
import pandas as pd

BY_LOT = 0.25
"""Share of the list that is drawn by lot from all candidates. Only these tell how good the answers are: the others were chosen
because they are difficult."""
_DISAGREE, _DRIFTED, _UNFAMILIAR, _REVIEW = 1.0, 0.5, 0.5, 0.25
"""What each reason adds to the uncertainty, 0..1."""


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
