"""A trained Keras model and its photos -> a model package with calibration, limits and statistics."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax

from conversion.package_builder import add_network, seal
from model_code.package import LITERT_FILE, ModelFacts
from model_code.preprocessing import Recipe, field_of_view, scale
from model_code.quality import image_statistics
from model_code.runtime import LiteRTRuntime
from training.fit import calibration_error, fit_quality_limits, fit_statistics, fit_temperature
from training.photos import LabelledViews, load_views, read_manifest


def finish(
    network: Path, photos: Path, manifest: Path, canary: Path, output: Path, facts: ModelFacts, description: str
) -> ModelFacts:
    """Write the model package of a trained network into `output`; returns its facts.

    photos: the folder that the manifest's paths start from. Temperature and the out-of-distribution limit are fitted on
    the split `val`, the embedding's subspace and the quality limits on `train`.
    """
    rows = read_manifest(manifest, facts.classes)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder)
        facts, class_weights = add_network(package, network, facts, runtime="litert")
        splits = {
            name: load_views(photos, rows[rows["split"] == name], facts.classes, facts.recipe) for name in ("train", "val")
        }
        outputs = {name: _run(package, split, facts.recipe) for name, split in splits.items()}
        statistics = fit_statistics(outputs["train"]["embedding"], outputs["val"]["embedding"], class_weights)
        logits, labels = outputs["val"]["output"], splits["val"].labels
        facts = replace(
            facts,
            temperature=fit_temperature(logits, labels),
            quality_limits=fit_quality_limits(_image_statistics(splits["train"])),
        )
        provenance = {"description": description, "validation": _figures(logits, splits["val"], facts)}
        facts = seal(package, replace(facts, provenance=provenance), statistics, canary)
        output.mkdir(parents=True, exist_ok=True)
        for path in package.iterdir():
            (output / path.name).write_bytes(path.read_bytes())
    return facts


def _run(package: Path, split: LabelledViews, recipe: Recipe) -> dict[str, np.ndarray]:
    with LiteRTRuntime(package / LITERT_FILE, threads=1).session() as infer:
        outputs = [infer(scale(view, recipe)) for view in split.views]
    return {name: np.stack([one[name] for one in outputs]) for name in ("output", "embedding")}


def _image_statistics(split: LabelledViews) -> pd.DataFrame:
    mask = field_of_view(split.views.shape[1])
    return pd.DataFrame([image_statistics(view, mask) for view in split.views])


def _figures(logits: np.ndarray, split: LabelledViews, facts: ModelFacts) -> dict[str, object]:
    correct = logits.argmax(axis=1) == split.labels
    return {
        "photos": len(correct),
        "accuracy": float(correct.mean()),
        "recall": {name: float(correct[split.labels == i].mean()) for i, name in enumerate(facts.classes)},
        "accuracy_by_source": {str(name): float(correct[split.sources == name].mean()) for name in np.unique(split.sources)},
        "calibration_error_before": calibration_error(softmax(logits, axis=1), split.labels),
        "calibration_error": calibration_error(softmax(logits / facts.temperature, axis=1), split.labels),
    }
