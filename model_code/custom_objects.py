"""Layers of a user's own: a Python file that lies beside the Keras file which needs it, and goes wherever that goes."""

import importlib.util
from pathlib import Path
from typing import Any

from model_code.model_error import ModelError


def objects_file(keras_file: Path) -> Path:
    """`classifier.keras` -> `classifier.layers.py`, which need not exist."""
    return keras_file.with_suffix(".layers.py")


def read_objects(path: Path) -> dict[str, Any]:
    """Name -> class or function of a Python file, which is run. Raises ModelError where it cannot be."""
    spec = importlib.util.spec_from_file_location(path.name.split(".")[0] + "_layers", path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's code raises whatever it likes
        raise ModelError(f"{path} with the model's own layers cannot be run ({type(error).__name__}: {error}).") from error
    return {name: value for name, value in vars(module).items() if callable(value) and not name.startswith("_")}
