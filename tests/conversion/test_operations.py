"""`.h5` files of Keras 3 with operations of keras.ops, of which they give the name alone. Loads TensorFlow."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

from eye_disease.conversion.keras_source import as_keras3
from model_code.keras_model import load_keras

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")


def _network(inside: bool) -> keras.Model:
    """Operations and layers of the same names; inside: in a model that is a layer of another."""
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    maps = layers.Conv2D(4, 3, padding="same")(image)
    gate = ops.relu6(maps + 3.0) * (1 / 6)
    maps = layers.Add()([layers.Multiply()([maps, gate]), ops.maximum(maps, 0.1)])
    maps = ops.concatenate([maps, ops.sqrt(ops.mean(ops.square(maps), axis=3, keepdims=True) + 1e-6)], axis=3)
    embedding = layers.GlobalAveragePooling2D()(layers.Concatenate()([maps, ops.silu(maps)]))
    model = keras.Model(image, layers.Dense(3, activation="softmax")(embedding))
    if not inside:
        return model
    outer = keras.Input((16, 16, 3))
    return keras.Model(outer, model(layers.Rescaling(2.0)(outer)))


@pytest.mark.parametrize("inside", [False, True])
def test_operations_in_an_h5_file_are_read(inside: bool, tmp_path: Path) -> None:
    model = _network(inside)
    model.save(file := tmp_path / "saved.h5")
    (made := tmp_path / "made").mkdir()
    read = as_keras3(file, made)
    assert read.suffix == ".keras"
    photos = np.random.default_rng(0).uniform(0, 1, (2, 16, 16, 3)).astype(np.float32)
    assert np.asarray(load_keras(read)(photos)) == pytest.approx(np.asarray(model(photos)), abs=1e-6)


def test_an_h5_file_without_operations_is_taken_as_it_is(tmp_path: Path) -> None:
    image = keras.Input((16, 16, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Add()([layers.Conv2D(3, 3, padding="same")(image), image]))
    keras.Model(image, layers.Dense(3)(pooled)).save(file := tmp_path / "saved.h5")
    assert as_keras3(file, tmp_path) == file
