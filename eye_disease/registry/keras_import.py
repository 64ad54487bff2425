"""A user's own Keras model -> a model package."""

from pathlib import Path

from eye_disease.common.paths import CANARY
from eye_disease.conversion.package_builder import add_network, seal
from model_code.package import ModelFacts, Statistics
from model_code.preprocessing import Recipe


def package_own_model(
    source: Path, output: Path, name: str, classes: tuple[str, ...], recipe: Recipe, runtime: str = "auto"
) -> ModelFacts:
    """Write a package for a `.keras` or `.h5` classifier into the empty folder `output`; returns its facts.

    Such a model has no fitted limits: its answers leave `gradable`, `out_of_distribution` and `ood_score` null.
    Raises ValueError for a model that does not fit, conversion.litert.DisagreementError if LiteRT answers otherwise.
    """
    facts = ModelFacts(name, classes, recipe, provenance={"description": f"own model {source.name}"})
    facts, class_weights = add_network(output, source, facts, runtime)
    return seal(output, facts, Statistics(class_weights), CANARY)
