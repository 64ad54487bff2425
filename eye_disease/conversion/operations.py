"""Operations of `keras.ops` in an `.h5` file of Keras 3, which names them without saying that they are no layers.

Keras then takes `Add` for its layer of that name, or knows no such layer; a `.keras` file has no such doubt.
"""

import importlib
import json
from typing import Any

import keras

_MODULES = ("core", "image", "linalg", "math", "nn", "numpy")


def has_operations(architecture: str) -> bool:
    """Whether a model's configuration, JSON, holds an operation that is no layer."""
    classes = _operations()

    def is_or_holds(part: Any) -> bool:
        if isinstance(part, dict):
            own = part.get("class_name") in classes and _is_operation(part.get("config", {}))
            return own or any(map(is_or_holds, part.values()))
        return isinstance(part, list) and any(map(is_or_holds, part))

    return is_or_holds(json.loads(architecture or "{}"))


def operations() -> dict[str, Any]:
    """Name -> what reads an operation or a layer of that name from its configuration; for `load_model`'s custom_objects."""
    return {name: _reader(operation, getattr(keras.layers, name, None)) for name, operation in _operations().items()}


def _operations() -> dict[str, type[keras.Operation]]:
    modules = [importlib.import_module(f"keras.src.ops.{name}") for name in _MODULES]
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, keras.Operation) and value.__module__ == module.__name__
    }


def _reader(operation: type[keras.Operation], layer: type[keras.layers.Layer] | None) -> type:
    class Reader:
        @staticmethod
        def from_config(config: dict[str, Any]) -> keras.Operation:
            made = operation if layer is None or _is_operation(config) else layer
            return made.from_config(config)

    return Reader


def _is_operation(config: dict[str, Any]) -> bool:
    """Every layer's configuration has a type of numbers, no operation's has."""
    return "dtype" not in config
