"""Models as users build them: what is served, what is refused, and that LiteRT and Keras agree. Loads TensorFlow."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from keras.applications.imagenet_utils import preprocess_input
from PIL import Image

from eye_disease.conversion.agreement import DisagreementError, largest_difference, require_agreement
from eye_disease.conversion.litert import to_litert
from eye_disease.conversion.package_builder import add_network, seal
from model_code.classifier import Classifier
from model_code.keras_model import check_shape, dissect, load_keras, with_heads
from model_code.package import CANARY_ANSWER, LITERT_FILE, ModelFacts, Statistics, file_sha256, keras_file
from model_code.preprocessing import Recipe, prepare, scale
from model_code.runtime import KerasRuntime, LiteRTRuntime
from model_code.settings import ServingSettings
from tests.support.photos import PACKAGE, SAMPLES, fundus

# Keras hands its variables to NumPy by a protocol that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")

SIDE = 32
CLASSES = ("a", "b", "c")
FACTS = ModelFacts("own", CLASSES, Recipe(SIDE, crop="none", scaling="unit"))
CANARY = SAMPLES / "canary.jpg"
SETTINGS = ServingSettings.from_env({})
Head = Callable[[Any], Any]


def _network(head: Head) -> keras.Model:
    keras.utils.set_random_seed(0)
    image = keras.Input((SIDE, SIDE, 3))
    feature_map = layers.Conv2D(8, 3, strides=2, activation="relu")(image)
    return keras.Model(image, head(feature_map))


def _pooled(*after: layers.Layer) -> Head:
    def head(feature_map: Any) -> Any:
        tensor = layers.GlobalAveragePooling2D()(feature_map)
        for layer in after:
            tensor = layer(tensor)
        return tensor

    return head


def _convolved(*after: layers.Layer) -> Head:
    """A convolution of the one pixel that the pooling leaves, as MobileNet ends."""
    return lambda maps: keras.Sequential([layers.GlobalAveragePooling2D(keepdims=True), layers.Conv2D(3, 1), *after])(maps)


def _logits(feature_map: Any) -> Any:
    return layers.Dense(3)(layers.GlobalAveragePooling2D()(feature_map))


def _not_convertible(feature_map: Any) -> Any:
    return _logits(keras.ops.erfinv(keras.ops.tanh(feature_map) * 0.9))


def _saved(model: keras.Model, folder: Path, suffix: str = ".keras") -> Path:
    path = folder / f"own{suffix}"
    model.save(path)
    return path


def _image(seed: int = 0) -> np.ndarray:
    return scale(prepare(fundus(64, seed), FACTS.recipe), FACTS.recipe)


@pytest.mark.parametrize(
    ("head", "output_kind", "has_feature_map"),
    [
        (_pooled(layers.Dense(3)), "logits", True),
        (_pooled(layers.Dense(3, activation="linear")), "logits", True),
        (_pooled(layers.Dense(3, activation="softmax")), "probabilities", True),
        (_pooled(layers.Dense(3), layers.Softmax()), "probabilities", True),
        (_pooled(layers.Dense(3), layers.Activation("softmax")), "probabilities", True),
        (_pooled(layers.Dropout(0.3), layers.Dense(3)), "logits", True),
        (_pooled(layers.Dense(5, activation="relu"), layers.Dense(3)), "logits", False),
        (_pooled(layers.BatchNormalization(), layers.Dense(3)), "logits", False),
        (_convolved(layers.Reshape((3,))), "logits", True),
        (_convolved(layers.Flatten(), layers.Softmax()), "probabilities", True),
        (lambda x: layers.Dense(3)(layers.Flatten()(x)), "logits", False),
        (lambda x: layers.Dense(3)(layers.GlobalMaxPooling2D()(x)), "logits", False),
        (lambda x: layers.Dense(3)(keras.ops.sort(layers.GlobalAveragePooling2D()(x))), "logits", False),
    ],
    ids=[
        "plain",
        "linear",
        "softmax",
        "softmax layer",
        "activation",
        "dropout",
        "two dense",
        "norm",
        "conv",
        "conv softmax",
        "flatten",
        "max",
        "op",
    ],
)
def test_the_last_layers_are_understood(head: Head, output_kind: str, has_feature_map: bool, tmp_path: Path) -> None:
    model = load_keras(_saved(_network(head), tmp_path))
    anatomy = dissect(model)
    outputs = {name: np.asarray(array) for name, array in with_heads(model)(_image()).items()}
    assert anatomy.output_kind == output_kind
    assert (anatomy.feature_map is not None) == has_feature_map == ("feature_map" in outputs)
    assert outputs["output"] == pytest.approx(np.asarray(model(_image())))
    kernel = anatomy.dense.kernel.numpy().reshape(outputs["embedding"].shape[1], 3)
    logits = outputs["embedding"] @ kernel + anatomy.dense.bias.numpy()
    expected = logits if output_kind == "logits" else np.asarray(keras.ops.softmax(logits))
    assert outputs["output"] == pytest.approx(expected, abs=1e-5)
    if has_feature_map:
        assert outputs["embedding"] == pytest.approx(outputs["feature_map"].mean(axis=(1, 2)), abs=1e-5)


def test_a_softmax_that_is_no_layer_is_not_taken_for_logits(tmp_path: Path) -> None:
    """Taken for logits, its probabilities would go through a second softmax and no answer would be confident."""
    model = load_keras(_saved(_network(lambda x: keras.ops.softmax(_logits(x))), tmp_path))
    try:
        assert dissect(model).output_kind == "probabilities"
    except ValueError as refused:
        assert "Expected" in str(refused)


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        (_pooled(layers.Dense(3, activation="sigmoid")), "activation is 'sigmoid'. Expected softmax"),
        (_pooled(layers.Dense(3), layers.Activation("tanh")), "activation is 'tanh'. Expected softmax"),
        (_pooled(layers.Dense(3), layers.Rescaling(2.0)), "ends in a Rescaling layer. Expected a Dense"),
        (_pooled(layers.Dense(3), layers.Dropout(0.1)), "ends in a Dropout layer. Expected a Dense"),
        (lambda x: layers.GlobalAveragePooling2D()(layers.Conv2D(3, 1)(x)), "ends in a GlobalAveragePooling2D layer"),
        (_pooled(layers.Dense(3, activation=layers.ReLU())), "Expected softmax"),
    ],
)
def test_a_model_that_does_not_end_in_a_classifier_is_refused(head: Head, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        dissect(_network(head))


def test_a_model_of_another_shape_is_refused_with_what_was_expected() -> None:
    model = _network(_logits)
    check_shape(model, CLASSES, SIDE)
    check_shape(keras.Model(any_size := keras.Input((None, None, 3)), _logits(any_size)), CLASSES, SIDE)
    two_inputs = keras.Model([model.input, extra := keras.Input((3,))], layers.Add()([model.output, extra]))
    two_outputs = keras.Model(model.input, [model.output, model.output])
    for wrong, classes, size, problem in (
        (model, ("a", "b"), SIDE, r"output has shape \(3,\). Expected \(2,\)"),
        (model, CLASSES, 64, r"images of shape \(32, 32, 3\). Expected \(64, 64, 3\); see --image-size"),
        (two_inputs, CLASSES, SIDE, "2 inputs and 1 outputs"),
        (two_outputs, CLASSES, SIDE, "1 inputs and 2 outputs"),
        (_network(lambda x: x), CLASSES, SIDE, r"output has shape \(15, 15, 8\)"),
        (keras.Model(flat := keras.Input((9,)), layers.Dense(3)(flat)), CLASSES, SIDE, r"images of shape \(9,\)"),
    ):
        with pytest.raises(ValueError, match=problem):
            check_shape(wrong, classes, size)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_sequential_model_is_the_same_as_a_functional_one(suffix: str, tmp_path: Path) -> None:
    stack = [keras.Input((SIDE, SIDE, 3)), layers.Conv2D(8, 3), layers.GlobalAveragePooling2D(), layers.Dense(3)]
    sequential = keras.Sequential(stack)
    nested = keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.Sequential(stack[:2]), *stack[2:]])
    for model in (sequential, nested):
        loaded = load_keras(_saved(model, tmp_path, suffix))
        assert dissect(loaded).feature_map is not None
        assert np.asarray(with_heads(loaded)(_image())["output"]) == pytest.approx(np.asarray(model(_image())), abs=1e-5)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_models_inside_a_model_are_seen_into(suffix: str, tmp_path: Path) -> None:
    """The base pools by itself; all is called twice as deep; the same names are in both models; one layer is called twice."""
    image = keras.Input((SIDE, SIDE, 3), name="image")
    twice = layers.Conv2D(3, 3, padding="same", name="twice")
    maps = layers.Conv2D(8, 3, activation="relu", name="conv")(twice(twice(image)))
    base = keras.Model(image, layers.GlobalAveragePooling2D(name="pool")(maps), name="base")
    whole = keras.Sequential([keras.Input((SIDE, SIDE, 3)), base, layers.Dropout(0.2), layers.Dense(3, activation="softmax")])
    outer = keras.Input((SIDE, SIDE, 3), name="pool")
    model = keras.Model(outer, whole(layers.Conv2D(3, 1, name="conv")(outer), training=False))
    loaded = load_keras(_saved(model, tmp_path, suffix))
    outputs = {name: np.asarray(array) for name, array in with_heads(loaded)(_image()).items()}
    assert outputs["output"] == pytest.approx(np.asarray(model(_image())), abs=1e-6)
    assert outputs["embedding"] == pytest.approx(outputs["feature_map"].mean(axis=(1, 2)), abs=1e-6)
    assert len(loaded.weights) == len(model.weights)


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
def test_files_that_hold_no_usable_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "own.txt").touch()
    for name in ("bad.keras", "bad.h5"):
        (tmp_path / name).write_bytes(b"this is no model")
    unbuilt = _saved(keras.Sequential([layers.Conv2D(8, 3), layers.GlobalAveragePooling2D(), layers.Dense(3)]), tmp_path)
    with pytest.raises(ValueError, match="no fixed input shape"):
        load_keras(unbuilt)
    for name in ("own.txt", "none.keras", "bad.keras", "bad.h5"):
        with pytest.raises(ValueError, match=r"Expected an existing|\.keras"):
            load_keras(tmp_path / name)


def test_a_model_with_a_layer_of_its_own_is_refused(tmp_path: Path) -> None:
    with keras.saving.CustomObjectScope({"Own": Own}):
        path = _saved(_network(_pooled(Own(), layers.Dense(3))), tmp_path)
    with pytest.raises(ValueError, match="Own"):
        load_keras(path)


class Own(layers.Layer):
    def call(self, inputs: Any) -> Any:
        return inputs


@pytest.mark.parametrize("softmax", [False, True])
def test_litert_and_keras_runtimes_give_the_same_answer(softmax: bool, tmp_path: Path) -> None:
    model = _network(_pooled(layers.Dense(3, activation="softmax" if softmax else None)))
    path = _saved(model, tmp_path)
    (tmp_path / LITERT_FILE).write_bytes(to_litert(load_keras(path), SIDE))
    runtimes = LiteRTRuntime(tmp_path / LITERT_FILE, threads=2), KerasRuntime(path, SIDE, threads=2)

    def outputs(seed: int) -> list[dict[str, np.ndarray]]:
        outputs_of_all = []
        for runtime in runtimes:
            with runtime.session() as infer:
                outputs_of_all.append(infer(_image(seed)))
        return outputs_of_all

    with ThreadPoolExecutor(4) as executor:
        for actual, expected in executor.map(outputs, range(12)):
            assert set(actual) == set(expected) == {"output", "embedding", "feature_map"}
            for name, array in expected.items():
                assert actual[name].shape == array.shape
                assert actual[name] == pytest.approx(array, abs=1e-5)


def _with_other_finding(name: str = "other_finding", units: int = 1, activation: str | None = None) -> keras.Model:
    """A network whose second output is, or is like, the logit of another finding."""
    image = keras.Input((SIDE, SIDE, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, strides=2, activation="relu")(image))
    return keras.Model(image, [layers.Dense(3)(pooled), layers.Dense(units, activation=activation, name=name)(pooled)])


def test_the_logit_of_another_finding_is_an_output_of_both_runtimes(tmp_path: Path) -> None:
    path = _saved(_with_other_finding(), tmp_path)
    model = load_keras(path)
    check_shape(model, CLASSES, SIDE)
    assert dissect(model).dense.units == 3
    (tmp_path / LITERT_FILE).write_bytes(to_litert(model, SIDE))
    logits, other = model.predict_on_batch(_image())
    for runtime in (LiteRTRuntime(tmp_path / LITERT_FILE, threads=1), KerasRuntime(path, SIDE, threads=1)):
        with runtime.session() as infer:
            outputs = infer(_image())
        assert set(outputs) == {"output", "embedding", "feature_map", "other_finding"}
        assert np.shape(outputs["other_finding"]) == ()
        assert outputs["other_finding"] == pytest.approx(other[0, 0], abs=1e-5)
        assert outputs["output"] == pytest.approx(logits[0], abs=1e-5)


@pytest.mark.parametrize("odd", [{"name": "another"}, {"units": 2}, {"activation": "sigmoid"}])
def test_a_second_output_that_is_no_logit_of_another_finding_is_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"1 inputs and 2 outputs.*Dense\(1\) named other_finding"):
        check_shape(_with_other_finding(**odd), CLASSES, SIDE)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("softmax", [False, True])
def test_an_own_model_becomes_a_package_that_answers(suffix: str, softmax: bool, tmp_path: Path) -> None:
    model = _network(_pooled(layers.Dense(3, activation="softmax" if softmax else None)))
    source, package = _saved(model, tmp_path, suffix), tmp_path / "package"
    package.mkdir()
    facts, class_weights = add_network(package, source, FACTS)
    facts = seal(package, facts, Statistics(class_weights), CANARY)
    assert (facts.runtime, facts.output_kind) == ("litert", "probabilities" if softmax else "logits")
    assert facts.provenance["keras_agreement"]["largest_difference"] < 1e-4
    assert facts.provenance["keras_agreement"]["litert_sha256"] == file_sha256(package / LITERT_FILE)
    assert keras_file(package).read_bytes() == source.read_bytes()
    with Image.open(CANARY) as canary:
        output = np.asarray(model(scale(prepare(canary.convert("RGB"), FACTS.recipe), FACTS.recipe)))[0]
    expected = output if softmax else np.exp(output) / np.exp(output).sum()
    answer = Classifier(package, "1", SETTINGS).classify(CANARY.read_bytes(), explain=True).answer
    assert [answer[f"prob_{name}"] for name in CLASSES] == pytest.approx(expected, abs=0.02)
    assert answer["heatmap_png"]
    assert json.loads((package / CANARY_ANSWER).read_text())["confidence"] == pytest.approx(answer["confidence"])


def test_a_model_litert_cannot_convert_is_served_by_keras(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = _saved(_network(_not_convertible), tmp_path)
    (package := tmp_path / "package").mkdir()
    facts, class_weights = add_network(package, source, FACTS, runtime="auto")
    facts = seal(package, facts, Statistics(class_weights), CANARY)
    assert facts.runtime == ModelFacts.load(package).runtime == "keras"
    assert "It will be served by Keras." in caplog.text
    assert not (package / LITERT_FILE).exists()
    answer = Classifier(package, "1", SETTINGS).classify(CANARY.read_bytes()).answer
    assert answer["error"] is None
    assert sum(answer[f"prob_{name}"] for name in CLASSES) == pytest.approx(1)


def test_a_model_litert_cannot_convert_is_refused_where_litert_is_asked_for(tmp_path: Path) -> None:
    source = _saved(_network(_not_convertible), tmp_path)
    with pytest.raises(ValueError, match="LiteRT cannot convert this model"):
        add_network(tmp_path, source, FACTS, runtime="litert")


def test_keras_serves_a_convertible_model_where_keras_is_asked_for(tmp_path: Path) -> None:
    (package := tmp_path / "package").mkdir()
    facts, _ = add_network(package, _saved(_network(_logits), tmp_path), FACTS, runtime="keras")
    assert facts.runtime == "keras"
    assert not (package / LITERT_FILE).exists()


def _branched(feature_map: Any) -> Any:
    """A concatenation that bears the name which Keras gives the first one in any process."""
    maps = layers.Conv2D(6, 3, strides=2, padding="same")(layers.Conv2D(6, 3, strides=2, padding="same")(feature_map))
    return layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Concatenate()([maps, maps])))


def _of_operations(feature_map: Any) -> Any:
    """The same of the other operations that `with_heads` adds; `.h5` cannot hold such a model."""
    maps = layers.Conv2D(6, 3, strides=2, padding="same")(layers.Conv2D(6, 3, strides=2, padding="same")(feature_map))
    return layers.Dense(3)(keras.ops.mean(keras.ops.log(keras.ops.sqrt(keras.ops.square(maps)) + 1.0), axis=(1, 2)))


@pytest.mark.parametrize(
    ("head", "suffix"),
    [(_branched, ".h5"), (_branched, ".keras"), (_of_operations, ".keras")],
    ids=["h5", "keras", "operations"],
)
def test_a_model_with_operations_like_ours_is_converted(head: Head, suffix: str, tmp_path: Path) -> None:
    source = _saved(_network(head), tmp_path, suffix)
    (package := tmp_path / "package").mkdir()
    keras.backend.clear_session()  # counts names from the start, as a process does that has not built the model
    facts, class_weights = add_network(package, source, FACTS, runtime="litert")
    keras.backend.clear_session()
    assert seal(package, facts, Statistics(class_weights), CANARY).provenance["keras_agreement"]["largest_difference"] < 1e-4
    with LiteRTRuntime(package / LITERT_FILE, threads=1).session() as infer:
        assert infer(_image())["style"].shape == (12,)


def test_a_litert_file_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    (package := tmp_path / "package").mkdir()
    facts, class_weights = add_network(package, _saved(_network(_logits), tmp_path), FACTS)
    other = _network(_logits)
    other.layers[-1].set_weights([other.layers[-1].kernel.numpy() * 3, np.float32([1, 0, -1])])
    (package / LITERT_FILE).write_bytes(to_litert(other, SIDE))
    assert largest_difference(package, facts, fundus(64)) > 0.05
    with pytest.raises(DisagreementError, match="--runtime keras"):
        seal(package, facts, Statistics(class_weights), CANARY)


@pytest.mark.parametrize(
    ("difference", "in_float", "quantized"),
    [(0.0, True, True), (0.005, True, True), (0.0051, False, True), (0.11, False, False), (float("nan"), False, False)],
)
def test_agreement_has_a_limit(difference: float, in_float: bool, quantized: bool) -> None:
    for facts, agrees, remedy in (
        (FACTS, in_float, "--runtime keras"),
        (replace(FACTS, quantized=True), quantized, "without --quantize"),
    ):
        if agrees:
            require_agreement(difference, facts)
        else:
            with pytest.raises(DisagreementError, match=remedy):
                require_agreement(difference, facts)


@pytest.mark.parametrize("scaling", ["tf", "torch", "caffe"])
def test_a_scaling_is_that_of_keras_applications(scaling: str) -> None:
    view = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    expected = preprocess_input(view[None].astype(np.float32), mode=scaling)
    assert scale(view, Recipe(SIDE, crop="none", scaling=scaling)) == pytest.approx(expected, abs=1e-4)


def test_the_bundled_network_is_what_its_litert_file_says(retina: bytes, tmp_path: Path) -> None:
    model, facts = load_keras(keras_file(PACKAGE)), ModelFacts.load(PACKAGE)
    dense, weights = dissect(model).dense, Statistics.load(PACKAGE).class_weights
    image = scale(prepare(fundus(400), facts.recipe), facts.recipe)
    outputs = {name: np.asarray(array)[0] for name, array in with_heads(model)(image).items()}
    with LiteRTRuntime(PACKAGE / LITERT_FILE, threads=1).session() as infer:
        for name, array in infer(image).items():
            # Quantized: within a twentieth of the values' range; of the map, what the heatmap takes from it.
            given, expected = (values @ weights if name == "feature_map" else values for values in (array, outputs[name]))
            assert given == pytest.approx(expected, abs=0.05 * max(float(np.ptp(expected)), 1.0)), name
    assert weights == pytest.approx(dense.kernel.numpy())
    logits = (outputs["feature_map"] @ weights).mean(axis=(0, 1)) + dense.bias.numpy()
    assert logits == pytest.approx(outputs["output"], abs=1e-4)
