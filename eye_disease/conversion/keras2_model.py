"""A network in an `.h5` file of Keras 2 -> the same network in Keras 3, computed in float32.

The graph is built anew, call by call, since Keras 3 refuses arguments that are gone and functions of TensorFlow in the graph.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from eye_disease.conversion.known_layers import PLAIN
from model_code.model_error import ModelError

Config = dict[str, Any]
_FOR_TRAINING = ("_initializer", "_regularizer", "_constraint", "noise_shape")
"""Ends of names of arguments that only training needs; custom ones of these would have to be known otherwise."""
_GONE = {
    "DepthwiseConv2D": {"groups"},
    "SeparableConv2D": {"groups"},
    "BatchNormalization": {"renorm", "renorm_clipping", "renorm_momentum", "fused", "virtual_batch_size", "adjustment"},
}
"""Class -> arguments that Keras 3 has not, and that change no answer."""
_GONE_FROM_ALL = {"batch_input_shape", "rng_type", "force_generator"}
_OPERATIONS: dict[str, Callable[..., Any]] = {
    "__operators__.add": keras.ops.add,
    "__operators__.getitem": lambda x, slice_spec: x[_slices(slice_spec)],
    "cast": lambda x, dtype: x,
    "concat": lambda values, axis: keras.ops.concatenate(values, axis=axis),
    "expand_dims": lambda x, axis: keras.ops.expand_dims(x, axis),
    "math.add": keras.ops.add,
    "math.divide": keras.ops.divide,
    "math.multiply": keras.ops.multiply,
    "math.reduce_max": lambda x, axis=None, keepdims=False: keras.ops.max(x, axis=axis, keepdims=keepdims),
    "math.reduce_mean": lambda x, axis=None, keepdims=False: keras.ops.mean(x, axis=axis, keepdims=keepdims),
    "math.sigmoid": keras.ops.sigmoid,
    "math.softplus": keras.ops.softplus,
    "math.subtract": keras.ops.subtract,
    "math.tanh": keras.ops.tanh,
    "math.truediv": keras.ops.divide,
    "nn.bias_add": lambda x, bias, data_format=None: keras.ops.add(x, _constant(bias)),
    "nn.gelu": lambda x, approximate=False: keras.ops.gelu(x, approximate=approximate),
    "nn.relu": keras.ops.relu,
    "nn.relu6": keras.ops.relu6,
    "nn.silu": lambda x, beta=1.0: keras.ops.silu(x),
    "nn.softmax": lambda x, axis=-1: keras.ops.softmax(x, axis=axis),
    "reshape": lambda x, shape: keras.ops.reshape(x, shape),
}
"""Functions of TensorFlow that `x / 127.5` and the like leave in a graph of Keras 2."""


def read_keras2(file: Path, objects: Mapping[str, Any]) -> keras.Model:
    """The network with its weights. objects: name -> class, of layers that are not Keras' own.

    Raises ModelError for what is not in Keras 3, and what the layers' classes raise.
    """
    with h5py.File(file, "r") as opened:
        text = opened.attrs.get("model_config")
    if text is None:
        raise ModelError("it holds weights and no architecture. Expected a file that model.save wrote")
    model = _model(json.loads(text), objects)
    model.load_weights(file)
    return model


def _model(config: Config, objects: Mapping[str, Any]) -> keras.Model:
    inner = config["config"]
    if not isinstance(inner, dict) or "layers" not in inner:
        raise ModelError(f"it is a {config['class_name']}, a class of its own. Expected a functional or sequential model")
    name = inner.get("name")
    return (
        _sequential(inner["layers"], name, objects)
        if config["class_name"] == "Sequential"
        else _Graph(inner, objects).model(name)
    )


def _sequential(layers: list[Config], name: str | None, objects: Mapping[str, Any]) -> keras.Model:
    shape = next(
        (
            layer["config"][key]
            for layer in layers[:1]
            for key in ("batch_input_shape", "batch_shape")
            if key in layer["config"]
        ),
        None,
    )
    if shape is None and "layers" in layers[0]["config"]:  # its first layer is a model
        shape = _model(layers[0], objects).input_shape
    if shape is None:
        raise ModelError("it has no fixed input shape. Save it with an input layer (keras.Input)")
    rest = layers[1:] if layers[0]["class_name"] == "InputLayer" else layers
    return keras.Sequential([keras.Input(batch_shape=shape), *(_layer(layer, objects) for layer in rest)], name=name)


def _layer(layer: Config, objects: Mapping[str, Any]) -> keras.layers.Layer:
    kind = str(PLAIN.get(layer["class_name"], layer["class_name"]))
    if "layers" in layer["config"]:
        return _model(layer, objects)
    config = {
        name: value
        for name, value in layer["config"].items()
        if not name.endswith(_FOR_TRAINING) and name not in _GONE.get(kind, set()) | _GONE_FROM_ALL
    }
    if kind == "LeakyReLU" and "alpha" in config:
        config["negative_slope"] = config.pop("alpha")
    if "hard_sigmoid" in (config.get("activation"), config.get("recurrent_activation")):
        raise ModelError("it uses hard_sigmoid, which is another function since Keras 3")
    if "dtype" in config:
        config["dtype"] = "float32"
    if isinstance(axis := config.get("axis"), list) and len(axis) == 1:
        config["axis"] = axis[0]
    made = objects.get(kind) or getattr(keras.layers, kind, None)
    if made is None or kind == "Lambda":
        raise ModelError(f"it has a layer {kind}, which Keras 3 has not. Name a module that defines it with --custom-objects")
    return made.from_config(config)


class _Graph:
    """A functional model, built from its configuration."""

    def __init__(self, config: Config, objects: Mapping[str, Any]) -> None:
        self._config = config
        self._objects = objects
        self._layers: dict[str, keras.layers.Layer] = {}
        self._tensors: dict[tuple[str, int], list[keras.KerasTensor]] = {}
        """Layer and number of its call -> what it gave"""

    def model(self, name: str | None) -> keras.Model:
        """Call every layer as soon as what it takes is there."""
        waiting = []
        for layer in self._config["layers"]:
            key = layer["name"]
            if layer["class_name"] == "InputLayer":
                shape = layer["config"].get("batch_input_shape") or layer["config"]["batch_shape"]
                self._tensors[key, 0] = [keras.Input(batch_shape=shape, name=key)]
            elif not _is_operation(layer):
                self._layers[key] = _layer(layer, self._objects)
            waiting += [(layer, number, node) for number, node in enumerate(layer["inbound_nodes"])]
        while waiting:
            later = [call for call in waiting if not self._called(*call)]
            if len(later) == len(waiting):
                raise ModelError("its graph has a loop, or calls that lead nowhere")
            waiting = later
        inputs, outputs = (self._ends(self._config[ends]) for ends in ("input_layers", "output_layers"))
        return keras.Model(inputs, outputs, name=name)

    def _called(self, layer: Config, number: int, node: list[Any]) -> bool:
        """Whether the tensors for a call were there; it is made then."""
        key = layer["name"]
        given = [node] if isinstance(node[0], str) else node
        if any((reference[0], reference[1]) not in self._tensors for reference in self._references(given)):
            return False
        tensors = [self._tensors[reference[0], reference[1]][reference[2]] for reference in given]
        named = given[-1][3] if len(given[-1]) > 3 else {}
        kwargs = {
            name: self._value(value) for name, value in named.items() if name not in ("name", "training") and value is not None
        }
        first = tensors[0] if len(tensors) == 1 else tensors
        if _is_operation(layer):
            result = _operate(layer["config"]["function"], first, kwargs, key)
        else:
            result = self._layers[key](first, **kwargs)
        # A model that is called as a layer has its own graph as call 0.
        self._tensors[key, number + ("layers" in layer["config"])] = keras.tree.flatten(result)
        return True

    def _references(self, given: list[Any]) -> list[list[Any]]:
        """All tensors that a call takes, those among the keyword arguments too."""
        named = [
            value for reference in given if len(reference) > 3 for value in reference[3].values() if self._is_reference(value)
        ]
        return [*given, *named]

    def _value(self, value: Any) -> Any:
        return self._tensors[value[0], value[1]][value[2]] if self._is_reference(value) else value

    def _is_reference(self, value: Any) -> bool:
        names = {layer["name"] for layer in self._config["layers"]}
        return isinstance(value, list) and len(value) == 3 and isinstance(value[0], str) and value[0] in names

    def _ends(self, ends: list[Any]) -> Any:
        listed = [ends] if isinstance(ends[0], str) else ends
        tensors = [self._tensors[reference[0], reference[1]][reference[2]] for reference in listed]
        return tensors[0] if len(tensors) == 1 else tensors


def _is_operation(layer: Config) -> bool:
    return layer["class_name"] in ("TFOpLambda", "SlicingOpLambda")


def _operate(function: str, first: Any, kwargs: dict[str, Any], name: str) -> keras.KerasTensor:
    if function not in _OPERATIONS:
        raise ModelError(f"it uses the function tf.{function}, which has no counterpart here")
    if set(kwargs) == {"y"}:  # of two operands
        result = _OPERATIONS[function](first, _constant(kwargs["y"]))
    else:
        result = _OPERATIONS[function](first, **kwargs)
    if result is not first:
        result._keras_history.operation.name = name.replace(".", "_")  # Keras' own may be another layer's
    return result


def _constant(value: Any) -> Any:
    """A number or a tensor as it is; a list of numbers as an array."""
    return np.asarray(value, "float32") if isinstance(value, list) else value


def _slices(spec: list[Any]) -> tuple[Any, ...]:
    """`x[..., ::-1]` as Keras 2 stores it."""

    def one(part: Any) -> Any:
        if isinstance(part, dict):
            return ... if "class_name" in part else slice(part["start"], part["stop"], part["step"])
        return part

    return tuple(one(part) for part in spec)
