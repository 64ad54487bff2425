"""Quantized networks: what is quantized and what is not, and how near the answers stay."""

from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from eye_disease.common.errors import UserError
from eye_disease.conversion.package_builder import add_network
from eye_disease.conversion.quantization import quantizable
from model_code.keras_model import with_heads
from model_code.package import LITERT_FILE, ModelFacts
from model_code.preprocessing import Recipe
from model_code.runtime import LiteRTRuntime

SIDE = 64


def _network(strides: int = 5) -> keras.Model:
    keras.utils.set_random_seed(3)
    image = keras.Input((SIDE, SIDE, 3), name="image")
    x = layers.Rescaling([1 / 127.5, 1 / 127.5, 1 / 64], offset=-1)(image)
    for _ in range(strides):
        x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(x)
    pooled = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, [layers.Dense(2)(pooled), layers.Dense(1, name="other_finding")(pooled)])


def _photos(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.float32)


def test_a_scaling_as_a_convolution_is_the_same_function() -> None:
    network, photos = _network(), _photos(4, seed=1)
    same = quantizable(network)
    assert not any(isinstance(layer, layers.Rescaling) for layer in same.layers)
    for given, expected in zip(same.predict_on_batch(photos), network.predict_on_batch(photos), strict=True):
        assert given == pytest.approx(expected, abs=1e-5)


def test_narrow_maps_are_integers_and_the_answers_stay_near(tmp_path: Path) -> None:
    network = _network()
    network.save(source := tmp_path / "source.keras")
    facts = ModelFacts("own", ("a", "b"), Recipe(SIDE))
    facts, _ = add_network(tmp_path, source, facts, "litert", _photos(32, seed=2))
    assert facts.quantized
    tensors = Interpreter(str(tmp_path / LITERT_FILE)).get_tensor_details()
    maps = {(int(one["shape"][1]), one["dtype"]) for one in tensors if len(one["shape"]) == 4 and one["shape"][0] == 1}
    assert {(4, np.int8), (2, np.int8)} <= maps
    assert {dtype for side, dtype in maps if side > 8} == {np.float32}

    photos = _photos(16, seed=3)
    expected = with_heads(network).predict_on_batch(photos)
    with LiteRTRuntime(tmp_path / LITERT_FILE, threads=1).session() as infer:
        given = [infer(photo[None]) for photo in photos]
    assert set(given[0]) == set(expected)
    for name, array in expected.items():
        values = np.stack([one[name] for one in given])
        assert values.shape == array.shape
        assert np.abs(values - array).max() <= 0.2 * np.ptp(array), name
    assert max(np.abs(one["output"] - array).max() for one, array in zip(given, expected["output"], strict=True)) > 0


def test_a_network_without_narrow_maps_cannot_be_quantized(tmp_path: Path) -> None:
    _network(strides=3).save(source := tmp_path / "source.keras")
    with pytest.raises(UserError, match=r"^The network has no map a sixteenth as wide .*Leave out --quantize\.$"):
        add_network(tmp_path, source, ModelFacts("own", ("a", "b"), Recipe(SIDE)), "litert", _photos(4, seed=4))


def test_without_examples_nothing_is_quantized(tmp_path: Path) -> None:
    _network().save(source := tmp_path / "source.keras")
    facts, _ = add_network(tmp_path, source, ModelFacts("own", ("a", "b"), Recipe(SIDE)), "litert")
    assert not facts.quantized
    assert np.int8 not in {one["dtype"] for one in Interpreter(str(tmp_path / LITERT_FILE)).get_tensor_details()}
