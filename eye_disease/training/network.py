"""The network to train: the body of a base network with one dense head of logits."""

from pathlib import Path
from types import ModuleType

import keras
import numpy as np

from eye_disease.common.errors import UserError
from model_code.keras_model import dissect, load_keras
from model_code.preprocessing import SCALINGS, Recipe, scale

DROPOUT = 0.3


def build(base: str, classes: int, size: int, frozen: float) -> keras.Model:
    """A trainable network: scaled RGB (N, size, size, 3) -> logits (N, classes).

    base: a `.keras` file, or the name of a network in `keras.applications` with its ImageNet weights. The head starts from
    the base's own where that has as many classes. frozen: share of the layers, from the input on, that keep their weights.
    Raises UserError for a base that cannot be used.
    """
    network = of_size(load_keras(Path(base)), size) if is_file(base) else _application(base, size)
    features, head = network.outputs[0], None
    if len(features.shape) == 2:
        anatomy = dissect(network)
        features, head = anatomy.feature_map, anatomy.dense
    if features is None or len(features.shape) != 4:
        raise UserError(f"{base} has no feature map under a mean pooling. Expected a convolutional network.")
    pooled = keras.layers.GlobalAveragePooling2D(name="embedding")(features)
    dense = keras.layers.Dense(classes, name="logits")
    model = keras.Model(network.inputs[0], dense(keras.layers.Dropout(DROPOUT)(pooled)))
    if head is not None and head.kernel.shape == dense.kernel.shape and head.use_bias:
        dense.set_weights(head.get_weights())
    for layer in model.layers[: int(frozen * len(model.layers))]:
        layer.trainable = False
    return model


def of_size(network: keras.Model, size: int) -> keras.Model:
    """The same network, with the same weights, for photos of another size; convolutions do not mind."""
    if network.inputs[0].shape[1] in (None, size):
        return network
    resized = keras.models.clone_model(network, input_tensors=keras.Input((size, size, 3), name="image"))
    resized.set_weights(network.get_weights())
    return resized


def is_file(base: str) -> bool:
    """Whether a base is a file, not a name in `keras.applications`."""
    return Path(base).suffix in {".keras", ".h5"}


def scaling_of(application: str) -> str:
    """The scaling (of model_code.preprocessing.SCALINGS) that a network in `keras.applications` expects."""
    probe = np.linspace(0, 255, 2 * 2 * 3).reshape(2, 2, 3).astype(np.uint8)
    expected = _module(application).preprocess_input(probe[None].astype(np.float32))
    for scaling in SCALINGS:
        if np.allclose(expected, scale(probe, Recipe(32, scaling=scaling)), atol=1e-3):
            return scaling
    raise UserError(f"{application} scales its photos in a way of its own. Expected one of {', '.join(SCALINGS)}.")


def _application(name: str, size: int) -> keras.Model:
    _module(name)
    try:
        return getattr(keras.applications, name)(include_top=False, weights="imagenet", input_shape=(size, size, 3))
    except Exception as error:  # what Keras' download raises is not documented
        raise UserError(
            f"{name}'s ImageNet weights could not be had ({error}). "
            "Give --base the path of a .keras file instead, or connect this machine to Keras' download site."
        ) from error


def _module(name: str) -> ModuleType:
    for module in vars(keras.applications).values():
        if isinstance(module, ModuleType) and hasattr(module, "preprocess_input") and hasattr(module, name):
            return module
    known = sorted(key for key, value in vars(keras.applications).items() if callable(value))
    raise UserError(f"--base {name}: expected a .keras file, models:/NAME/VERSION or one of {', '.join(known)}.")
