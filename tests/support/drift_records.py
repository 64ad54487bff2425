"""Synthetic records of a classifier, with the inference log's fields as columns."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from scipy.special import softmax

from model_code.embedding import LOGGED_COMPONENTS
from model_code.quality import STATISTICS

CLASSES = ("cataract", "diabetic_retinopathy", "glaucoma", "normal")
START = datetime(2026, 3, 1, tzinfo=UTC)
_CENTRES = {"brightness": 100, "contrast": 30, "sharpness": 60, "red": 130, "green": 90, "blue": 60, "field_of_view_share": 0.9}


def make_records(
    n: int,
    seed: int,
    classes: Sequence[str] = CLASSES,
    mix: Sequence[float] | None = None,
    sites: Sequence[str | None] = (None,),
    sharpness: float = 1.0,
    shift: float = 0.0,
) -> pa.Table:
    """n answered records. Photos of each class share a place in the embedding, and a brightness.

    mix: shares of the classes (equal). sharpness: factor, as of a blurred lens. shift: of the embedding, as of another camera.
    """
    rng = np.random.default_rng(seed)
    size = len(classes)
    truth = rng.choice(size, n, p=mix if mix is not None else np.full(size, 1 / size))
    places = np.random.default_rng(size).normal(0, 0.5, (size, LOGGED_COMPONENTS))
    embedding = places[truth] + rng.normal(0, 1, (n, LOGGED_COMPONENTS)) + shift
    distances = ((embedding[:, None, :] - places) ** 2).sum(axis=2)
    probabilities = softmax(-distances / 2, axis=1)
    best = probabilities.argmax(axis=1)
    statistics = {name: _CENTRES[name] * (1 + 0.2 * rng.normal(size=n)) for name in STATISTICS}
    statistics["brightness"] += 10 * truth
    statistics["sharpness"] *= sharpness
    confidence = probabilities.max(axis=1)
    ood_score = np.abs(embedding).mean(axis=1) / 1.4
    columns = {
        "prediction_id": [f"{seed:08x}-{i:012x}" for i in range(n)],
        "timestamp": [(START + timedelta(seconds=i)).isoformat(timespec="microseconds") for i in range(n)],
        "lost_records": np.zeros(n, int),
        "site": pa.array([sites[i % len(sites)] for i in range(n)], pa.string()),
        "canary": np.zeros(n, bool),
        "predicted_class": [classes[i] for i in best],
        "confidence": confidence,
        **{f"prob_{name}": probabilities[:, i] for i, name in enumerate(classes)},
        "decision": np.where(confidence < 0.6, "review", "report"),
        "low_confidence": confidence < 0.6,
        "gradable": statistics["sharpness"] > 20,
        "out_of_distribution": ood_score > 1,
        "ood_score": ood_score,
        "unfamiliar_camera": ood_score > 0.9,
        "inference_time_ms": rng.lognormal(3, 0.3, n),
        "error_code": pa.nulls(n, pa.string()),
        **statistics,
        **{f"embedding_{i}": embedding[:, i - 1] for i in range(1, LOGGED_COMPONENTS + 1)},
    }
    return pa.table(columns)


def make_errors(n: int, code: str = "image_corrupt", site: str | None = None) -> pa.Table:
    """n records with an error: everything of the answer null."""
    good = make_records(max(n, 1), seed=999).slice(0, n)
    kept = {"timestamp": good["timestamp"], "lost_records": good["lost_records"], "canary": good["canary"]}
    kept["prediction_id"] = pa.array([f"error-{i}" for i in range(n)], pa.string())
    kept |= {"error_code": pa.array([code] * n, pa.string()), "site": pa.array([site] * n, pa.string())}
    return pa.table({name: kept.get(name, pa.nulls(n, good.schema.field(name).type)) for name in good.schema.names})


def replace_column(records: pa.Table, name: str, values: object) -> pa.Table:
    """The records with another column in a column's place."""
    return records.set_column(records.schema.get_field_index(name), name, pa.array(values))
