"""A trained network and its photos -> a model package with calibration, limits, statistics and a reference for drift."""

import itertools
import shutil
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.special import softmax

from eye_disease.conversion.package_builder import add_network, seal
from eye_disease.evaluation.figures import Figures, measure
from eye_disease.evaluation.shares import calibration_error
from eye_disease.profiles.reference import REFERENCE_FILE, SMALLEST_REFERENCE, Reference
from eye_disease.training.degrade import DEGRADATIONS
from eye_disease.training.fit import fit_embedding, fit_familiarity, fit_quality, fit_temperature
from eye_disease.training.photos import MAX_PIXELS, Photos, view_of
from model_code.classifier import Classifier
from model_code.identity import UNREGISTERED_VERSION
from model_code.package import LITERT_FILE, ModelFacts
from model_code.preprocessing import Recipe, scale
from model_code.runtime import LiteRTRuntime
from model_code.settings import ServingSettings

RUINED = 1200


@dataclass(frozen=True)
class Finished:
    """A package's facts and how it does on the validation photos."""

    facts: ModelFacts
    figures: Figures
    probabilities: np.ndarray
    """Calibrated, float (N, C), in the order of the validation photos."""


def finish(network: Path, photos: Photos, folder: Path, canary: Path, output: Path, facts: ModelFacts) -> Finished:
    """Write the model package of a trained network into `output`.

    folder: where the photos' paths start. Temperature and the limits are fitted on the split `val`, the embedding's
    subspace and what good, ruined and familiar photos look like on `train`. `facts.provenance` is kept, and gets the figures.
    """
    training, validation = photos.of("train"), photos.of("val")
    with tempfile.TemporaryDirectory() as temporary:
        package = Path(temporary)
        facts, class_weights = add_network(package, network, facts, runtime="litert")
        learned, seen = _run(package, training.views, photos.recipe), _run(package, validation.views, photos.recipe)
        logits = seen["output"]
        facts = replace(facts, temperature=fit_temperature(logits, validation.labels))
        probabilities = softmax(logits / facts.temperature, axis=1)
        figures = measure(probabilities, validation.labels, facts.classes, validation.sources)
        right = logits.argmax(axis=1) == validation.labels
        before = calibration_error(softmax(logits, axis=1).max(axis=1), right)
        known = {"validation": figures.as_dict() | {"calibration_error_before": before}, "data": _composition(photos.rows)}
        statistics = replace(fit_embedding(learned["embedding"]), class_weights=class_weights)
        if "style" in learned:
            familiarity = fit_familiarity(learned["style"], training.sources, seen["style"])
            ruined = _run(package, _degraded(training), photos.recipe)
            quality = fit_quality(learned["style"], ruined["style"], seen["style"])
            arrays = {name: array for name, array in vars(familiarity).items() if array is not None}
            statistics = replace(statistics, **arrays, quality_weights=quality)
        facts = seal(package, replace(facts, provenance=facts.provenance | known), statistics, canary)
        if len(validation.rows) >= SMALLEST_REFERENCE:
            records = _records(package, validation, folder)
            Reference.build(records, facts.classes, "validation", facts.name).save(package / REFERENCE_FILE)
        output.mkdir(parents=True, exist_ok=True)
        for path in package.iterdir():
            shutil.copyfile(path, output / path.name)
    return Finished(facts, figures, probabilities)


def _composition(rows: pd.DataFrame) -> dict[str, Any]:
    """What the photos were, for the model card: how many of each split, label and source, and of how many groups."""
    counts = rows.groupby(["split", "label", "source"]).size().reset_index(name="photos")
    return {"photos": counts.to_dict("records"), "groups": int(rows["group"].nunique())}


def _run(package: Path, views: np.ndarray, recipe: Recipe) -> dict[str, np.ndarray]:
    """The network's outputs for views (N, S, S, 3), without the feature map."""
    with LiteRTRuntime(package / LITERT_FILE, threads=1).session() as infer:
        outputs = [infer(scale(view, recipe)) for view in views]
    return {name: np.stack([one[name] for one in outputs]) for name in outputs[0] if name != "feature_map"}


def _degraded(photos: Photos) -> np.ndarray:
    """Views of at most RUINED photos, each made ungradable in one of the ways of training.degrade."""
    rng = np.random.default_rng(0)
    chosen = photos.rows.index.to_numpy()[rng.permutation(len(photos.rows))[:RUINED]]
    ways = itertools.cycle(DEGRADATIONS.values())
    return np.stack([view_of(way(photos.squares[i], rng), photos.recipe) for i, way in zip(chosen, ways, strict=False)])


def _records(package: Path, photos: Photos, folder: Path) -> pa.Table:
    """What the inference log would hold had the photos been sent to the served model."""
    settings = replace(ServingSettings.from_env({}), max_image_bytes=2**31, max_image_pixels=MAX_PIXELS)
    classifier = Classifier(package, UNREGISTERED_VERSION, settings)
    stamp = {"timestamp": datetime.now(UTC).isoformat(timespec="microseconds")}
    answered = [classifier.classify((folder / path).read_bytes()) for path in photos.rows["path"]]
    return pa.Table.from_pylist([stamp | one.answer | one.facts for one in answered])
