"""A user's own Keras model -> a model package."""

import contextlib
import importlib.util
import sys
import tempfile
from pathlib import Path

from eye_disease.common.paths import CANARY
from eye_disease.conversion.keras_source import as_keras3, written_by
from eye_disease.conversion.package_builder import add_network, seal
from model_code.model_error import ModelError
from model_code.package import ModelFacts, Statistics
from model_code.preprocessing import Recipe


def package_own_model(
    source: Path,
    output: Path,
    name: str,
    classes: tuple[str, ...],
    recipe: Recipe,
    runtime: str = "auto",
    layers_file: Path | None = None,
) -> ModelFacts:
    """Write a package for a Keras classifier (.keras, .h5, SavedModel) into the empty folder `output`; returns its facts.

    layers_file: Python code of the layers that are not Keras' own. Such a model has no fitted limits: its answers leave
    `gradable`, `out_of_distribution` and `ood_score` null.
    Raises ModelError for a model that does not fit, conversion.agreement.DisagreementError if LiteRT answers otherwise.
    """
    provenance = {"description": f"own model {source.name}", "written_by_keras": written_by(source)}
    facts = ModelFacts(name, classes, recipe, provenance=provenance)
    with tempfile.TemporaryDirectory() as folder:
        facts, class_weights = add_network(output, as_keras3(source, Path(folder), layers_file), facts, runtime)
    return seal(output, facts, Statistics(class_weights), CANARY)


def find_layers_file(source: str) -> Path | None:
    """`layers.py`, or the name of a module that can be imported -> its file; None if nothing is given. Raises ModelError."""
    if not source:
        return None
    if (path := Path(source)).suffix == ".py" and path.is_file():
        return path
    with contextlib.suppress(ImportError, ValueError):  # of a parent package that cannot be imported, of `a..b`
        sys.path.insert(0, str(Path.cwd()))
        try:
            spec = importlib.util.find_spec(source)
        finally:
            sys.path.pop(0)
        if spec and spec.origin and spec.origin.endswith(".py"):
            return Path(spec.origin)
    raise ModelError(f"--custom-objects {source}: expected a Python file, or a module that can be imported from here.")
