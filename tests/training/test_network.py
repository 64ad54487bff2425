"""The network to train, made from a base, and what is served of it."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from eye_disease.training.network import blended, build, finished, folded, knows_other, scaling_of
from model_code.keras_model import check_shape, dissect, load_keras
from model_code.package import keras_file
from tests.support.photos import PACKAGE

SIZE = 64
HEADS = 1 + 4
"""Outputs beside the classes: another finding, the steps of the grade."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small convolutional network for photos of any size, without a head, its normalisation not trivial."""
    keras.utils.set_random_seed(7)
    image = keras.Input((None, None, 3))
    x = layers.Rescaling(1 / 255)(image)
    for width in (8, 16):
        x = layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.DepthwiseConv2D(3, padding="same")(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.Add()([x, layers.BatchNormalization(scale=False, name="alone")(x)])
    model = keras.Model(image, x)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    path = tmp_path_factory.mktemp("base") / "base.keras"
    model.save(path)
    return str(path)


def _photos(count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 255, (count, SIZE, SIZE, 3)).astype(np.float32)


def test_folding_the_normalisation_changes_no_answer(base: str) -> None:
    network = load_keras(Path(base))
    plain = folded(network)
    expected = network.predict_on_batch(_photos())
    assert np.ptp(expected) > 1
    assert plain.predict_on_batch(_photos()) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    left = [layer.name for layer in plain.layers if isinstance(layer, layers.BatchNormalization)]
    assert left == ["alone"], "only what follows no convolution is left"


def test_what_is_served_of_a_trained_network(base: str, tmp_path: Path) -> None:
    trained = build(base, classes=3, size=SIZE, frozen=0.0, fold=True)
    told = trained.predict_on_batch(_photos())
    assert told.shape == (2, 3 + HEADS)
    finished(trained, other_finding=True).save(tmp_path / "with.keras")
    finished(trained, other_finding=False).save(tmp_path / "without.keras")
    logits, other = load_keras(tmp_path / "with.keras").predict_on_batch(_photos())
    assert np.concatenate([logits, other], axis=1) == pytest.approx(told[:, :4], abs=1e-5)
    assert load_keras(tmp_path / "without.keras").predict_on_batch(_photos()) == pytest.approx(told[:, :3], abs=1e-5)
    for name, knows in (("with", True), ("without", False)):
        model = load_keras(tmp_path / f"{name}.keras")
        check_shape(model, ("a", "b", "c"), SIZE)
        assert (dissect(model).other_finding is not None) is knows is knows_other(str(tmp_path / f"{name}.keras"))
        assert dissect(model).feature_map is not None


def test_a_trained_network_goes_on_with_all_its_heads(base: str, tmp_path: Path) -> None:
    trained = build(base, classes=3, size=SIZE, frozen=0.0)
    finished(trained, other_finding=True).save(tmp_path / "trained.keras")
    again = build(str(tmp_path / "trained.keras"), classes=3, size=SIZE, frozen=0.0)
    assert again.predict_on_batch(_photos())[:, :4] == pytest.approx(trained.predict_on_batch(_photos())[:, :4], abs=1e-5)


def test_a_head_is_kept_where_it_fits_and_new_where_not(base: str) -> None:
    assert build(base, classes=3, size=SIZE, frozen=0.0).output.shape == (None, 3 + HEADS)
    bundled = str(keras_file(PACKAGE))
    kept = build(bundled, classes=4, size=224, frozen=0.3)
    before = dissect(load_keras(Path(bundled))).dense.get_weights()[0]
    assert kept.get_layer("logits").get_weights()[0] == pytest.approx(before)
    assert not any(layer.trainable for layer in kept.layers[: int(0.3 * len(kept.layers))])
    assert kept.get_layer("logits").trainable
    assert build(bundled, classes=5, size=224, frozen=0.0).output.shape == (None, 5 + HEADS)


def test_a_base_of_another_size_keeps_its_weights(tmp_path: Path) -> None:
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.ReLU(name="map")(keras.layers.Conv2D(4, 3, strides=2)(image))
    head = keras.layers.Dense(3, name="head")(keras.layers.GlobalAveragePooling2D()(x))
    fixed = keras.Model(image, head)
    fixed.save(tmp_path / "fixed.keras")
    larger = build(str(tmp_path / "fixed.keras"), 3, SIZE + 16, 0.0)
    assert larger.input_shape == (None, SIZE + 16, SIZE + 16, 3)
    flat = np.full((1, SIZE, SIZE, 3), 7, np.float32)
    expected = fixed.predict_on_batch(flat)
    answers = larger.predict_on_batch(np.full((1, SIZE + 16, SIZE + 16, 3), 7, np.float32))
    assert answers[:, :3] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_base_without_a_feature_map_is_refused(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 3))
    keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image))).save(tmp_path / "flat.keras")
    with pytest.raises(ValueError, match="no feature map under a mean pooling"):
        build(str(tmp_path / "flat.keras"), classes=2, size=8, frozen=0.0)


@pytest.mark.parametrize(
    ("name", "scaling"),
    [("EfficientNetB0", "none"), ("InceptionV3", "tf"), ("ResNet50", "caffe"), ("DenseNet121", "torch")],
)
def test_the_scaling_of_a_keras_application_is_found(name: str, scaling: str) -> None:
    assert scaling_of(name) == scaling


def test_trained_weights_move_towards_those_they_came_from(base: str, tmp_path: Path) -> None:
    origin = build(base, classes=3, size=SIZE, frozen=0.0)
    finished(origin, other_finding=False).save(tmp_path / "origin.keras")
    keras.utils.set_random_seed(3)
    trained = finished(build(base, classes=3, size=SIZE, frozen=0.0, fold=True), other_finding=True)
    before = {layer.name: layer.get_weights() for layer in trained.layers}
    blended(trained, tmp_path / "origin.keras", 0.25)
    expected = 0.75 * before["logits"][0] + 0.25 * origin.get_layer("logits").get_weights()[0]
    assert trained.get_layer("logits").get_weights()[0] == pytest.approx(expected, abs=1e-6)
    assert trained.get_layer("other_finding").get_weights()[0] == pytest.approx(before["other_finding"][0]), "not in the origin"
    convolution = next(layer.name for layer in trained.layers if isinstance(layer, layers.Conv2D))
    assert trained.get_layer(convolution).get_weights()[0] == pytest.approx(before[convolution][0], abs=1e-6), (
        "the same in both"
    )


def test_a_network_of_other_layers_is_not_blended(base: str, tmp_path: Path) -> None:
    image = keras.Input((SIZE, SIZE, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="strange")(image))
    keras.Model(image, layers.Dense(3, name="head_of_its_own")(pooled)).save(tmp_path / "other.keras")
    trained = finished(build(base, classes=3, size=SIZE, frozen=0.0), other_finding=False)
    with pytest.raises(ValueError, match=r"other.keras shares no layer with the trained network"):
        blended(trained, tmp_path / "other.keras", 0.3)
