"""Writes model files of Keras 2 and what the models answer: run as `python -m tests.support.keras2_files FOLDER`."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

SIDE = 32


class FixedDropout(layers.Dropout):
    """As in the package efficientnet."""


class Gate(layers.Layer):
    """A layer that no Keras knows; LAYERS has it for Keras 3."""

    def call(self, inputs: Any) -> Any:
        return inputs * tf.nn.sigmoid(inputs)


LAYERS = """
import tensorflow as tf
from tensorflow.keras import layers


class Gate(layers.Layer):
    def call(self, inputs):
        return inputs * tf.nn.sigmoid(inputs)
"""


def _branched(between: Callable[[Any], Any] = lambda x: x, before: Callable[[Any], Any] = lambda x: x) -> keras.Model:
    image = keras.Input((SIDE, SIDE, 3))
    maps = layers.Conv2D(8, 3, strides=2, activation="relu")(before(image))
    maps = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(maps))
    maps = layers.LeakyReLU(0.2)(layers.SeparableConv2D(6, 3, activation="swish")(maps))
    maps = layers.Concatenate()([between(maps), maps])
    pooled = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(maps))
    return keras.Model(image, layers.Dense(4, activation="softmax", dtype="float32")(pooled))


def _mixed() -> keras.Model:
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        return _branched()
    finally:
        keras.mixed_precision.set_global_policy("float32")


def _nested(caffe: bool) -> keras.Model:
    """As transfer learning is taught: the application's own scaling, its network called as a layer, a head."""
    scaled = keras.applications.resnet if caffe else keras.applications.mobilenet_v2
    image = keras.Input((SIDE, SIDE, 3))
    convolved = layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2, activation="relu")(image))
    base = keras.Model(image, layers.Conv2D(8, 3, activation="relu")(convolved))
    base.trainable = False
    image = keras.Input((SIDE, SIDE, 3))
    maps = base(scaled.preprocess_input(image), training=False)
    return keras.Model(image, layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling2D()(maps)))


def _sequential() -> keras.Model:
    stack = [layers.Rescaling(1 / 127.5, offset=-1, input_shape=(SIDE, SIDE, 3)), layers.RandomFlip("horizontal")]
    return keras.Sequential(
        [*stack, layers.Conv2D(8, 3), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(4, activation="softmax")]
    )


def _operations(maps: Any) -> Any:
    """What people write between layers: each becomes a function of TensorFlow in the graph."""
    halved = tf.nn.relu(maps * 2.0 - 0.1) / 2.0
    return halved + tf.reduce_mean(maps, axis=[1, 2], keepdims=True)


MODELS: dict[str, Callable[[], keras.Model]] = {
    "branched": _branched,
    "mixed": _mixed,
    "dropout": lambda: _branched(FixedDropout(0.3, noise_shape=(None, 1, 1, 1))),
    "operations": lambda: _branched(_operations),
    "gate": lambda: _branched(Gate()),
    "hard": lambda: _branched(layers.Activation("hard_sigmoid")),
    "caffe": lambda: _nested(caffe=True),
    "tf": lambda: _nested(caffe=False),
    "sequential": _sequential,
}


def _spread(model: keras.Model, photos: np.ndarray) -> None:
    """Make the answers differ from photo to photo, so that a wrong one is told from a right one."""
    dense = model.layers[-1]
    embedding = np.asarray(keras.Model(model.inputs, dense.input)(photos, training=False), np.float64)
    kernel = np.asarray(dense.kernel, np.float64)
    kernel /= max((embedding @ kernel).std(axis=0).mean(), 1e-6)
    dense.set_weights([kernel, -(embedding @ kernel).mean(axis=0)])


def main(folder: Path) -> None:
    """`<name>.h5` of every model, the others of some, and `<name>.npz` with photos and answers."""
    rng = np.random.default_rng(0)
    for name, make in MODELS.items():
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        model = make()
        for variable in model.weights:
            if "moving_variance" not in variable.name and "gamma" not in variable.name:
                variable.assign_add(rng.normal(0, 0.1, variable.shape))
        most = 255 if name in ("caffe", "tf", "sequential") else 1
        photos = rng.uniform(0, most, (6, SIDE, SIDE, 3)) * rng.uniform(0.1, 1, (6, 1, 1, 1))
        _spread(model, photos := photos.astype("float32"))
        model.compile("adam", "categorical_crossentropy")
        np.savez(folder / f"{name}.npz", photos=photos, answers=np.asarray(model(photos, training=False)))
        model.save(folder / f"{name}.h5")
    model.save(folder / "sequential.keras")
    model.save(folder / "sequential", save_format="tf")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
