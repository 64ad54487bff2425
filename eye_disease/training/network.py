"""The network to train: the body of a base network with dense heads; and of a trained one, what is served."""

from collections import Counter
from pathlib import Path
from types import ModuleType

import keras
import numpy as np

from eye_disease.common.errors import UserError
from eye_disease.training.targets import GRADE_STEPS
from model_code.keras_model import OTHER_FINDING, dissect, load_keras
from model_code.preprocessing import SCALINGS, Recipe, scale

DROPOUT = 0.3
LOGITS, GRADE = "logits", "grade"
"""Names of the heads, beside OTHER_FINDING."""
FOLDABLE = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def build(base: str, classes: int, size: int, frozen: float, fold: bool = False) -> keras.Model:
    """A trainable network: scaled RGB (N, size, size, 3) -> logits (N, classes + 1 + GRADE_STEPS), see training.targets.

    base: a `.keras` file, or the name of a network in `keras.applications` with its ImageNet weights. Heads start from the
    base's own where that has them. frozen: share of the layers, from the input on, that keep their weights. fold: see `folded`.
    Raises UserError for a base that cannot be used.
    """
    network = of_size(load_keras(Path(base)), size) if is_file(base) else _application(base, size)
    features, trained_heads = network.outputs[0], {}
    if len(features.shape) == 2:
        anatomy = dissect(network)
        features, trained_heads = anatomy.feature_map, {LOGITS: anatomy.dense, OTHER_FINDING: anatomy.other_finding}
    if features is None or len(features.shape) != 4:
        raise UserError(f"{base} has no feature map under a mean pooling. Expected a convolutional network.")
    body = keras.Model(network.inputs[0], features)
    body = folded(body) if fold else body
    pooled = keras.layers.GlobalAveragePooling2D(name="embedding")(body.outputs[0])
    dropped = keras.layers.Dropout(DROPOUT)(pooled)
    widths = {LOGITS: classes, OTHER_FINDING: 1, GRADE: GRADE_STEPS}
    heads = [keras.layers.Dense(width, name=name) for name, width in widths.items()]
    model = keras.Model(body.inputs[0], keras.layers.Concatenate(name="heads")([head(dropped) for head in heads]))
    for head in heads:
        before = trained_heads.get(head.name)
        if before is not None and before.kernel.shape == head.kernel.shape and before.use_bias:
            head.set_weights(before.get_weights())
    for layer in model.layers[: int(frozen * len(model.layers))]:
        layer.trainable = False
    return model


def finished(model: keras.Model, other_finding: bool) -> keras.Model:
    """Of a trainable network what is served: logits and, if wanted, another finding's logit, without dropout and grade."""
    embedding = model.get_layer("embedding").output
    names = [LOGITS, OTHER_FINDING] if other_finding else [LOGITS]
    outputs = []
    for name in names:
        trained = model.get_layer(name)
        head = keras.layers.Dense(trained.units, name=name)
        outputs.append(head(embedding))
        head.set_weights(trained.get_weights())
    return keras.Model(model.inputs[0], outputs if other_finding else outputs[0])


def blended(network: keras.Model, file: Path, share: float) -> keras.Model:
    """`network`, its weights moved by `share` towards those of another network of the same layers; layers that lacks are kept.

    Between a fine-tuned network and the one it came from lies one that is better on other photos (Wortsman et al., "Robust
    fine-tuning of zero-shot models", CVPR 2022). Raises UserError where no layer is in both.
    """
    other = of_size(load_keras(file), network.inputs[0].shape[1])
    other = other if _is_normalised(network) else folded(other)
    others = {layer.name: layer.get_weights() for layer in other.layers if layer.weights}
    shared = [
        layer for layer in network.layers if layer.weights and _shapes(layer.get_weights()) == _shapes(others.get(layer.name))
    ]
    if not shared:
        raise UserError(f"{file} shares no layer with the trained network. Expected the network that the training came from.")
    for layer in shared:
        pairs = zip(layer.get_weights(), others[layer.name], strict=True)
        layer.set_weights([own + share * (far - own) for own, far in pairs])
    return network


def _is_normalised(network: keras.Model) -> bool:
    return any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)


def _shapes(weights: list[np.ndarray] | None) -> list[tuple[int, ...]]:
    return [array.shape for array in weights or []]


def folded(network: keras.Model) -> keras.Model:
    """The same function with batch normalisation folded into the convolutions before it, as far as there are such.

    Training it is about twice as fast on a processor, and needs a base whose statistics fit: no normalisation is left that
    could follow other photos.
    """
    norms = {id(layer.input): layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)}
    consumers = Counter(id(tensor) for layer in network.layers[1:] for tensor in keras.tree.flatten(layer.input))
    pairs = {
        layer.name: norms[id(layer.output)]
        for layer in network.layers
        if isinstance(layer, FOLDABLE)
        and layer.get_config()["activation"] == "linear"
        and id(layer.output) in norms
        and consumers[id(layer.output)] == 1
    }
    made = {id(network.inputs[0]): keras.Input(network.inputs[0].shape[1:], name=network.inputs[0].name)}
    image = made[id(network.inputs[0])]
    for layer in network.layers[1:]:
        inputs = keras.tree.map_structure(lambda tensor: made[id(tensor)], layer.input)
        if layer in pairs.values():
            made[id(layer.output)] = inputs
            continue
        norm = pairs.get(layer.name)
        same = type(layer).from_config(layer.get_config() | ({"use_bias": True} if norm else {}))
        made[id(layer.output)] = same(inputs)
        same.set_weights(_with_norm(layer, norm) if norm else layer.get_weights())
    return keras.Model(image, made[id(network.outputs[0])])


def _with_norm(layer: keras.layers.Layer, norm: keras.layers.BatchNormalization) -> list[np.ndarray]:
    """Kernel and bias of a convolution followed by what a normalisation does in inference."""
    kernel, *bias = layer.get_weights()
    mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    gain = (norm.gamma.numpy() if norm.scale else 1) / np.sqrt(variance + norm.epsilon)
    shift = (bias[0] if bias else 0) - mean
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    scaled = kernel * (gain.reshape(1, 1, *kernel.shape[2:]) if depthwise else gain)
    return [scaled, shift * gain + (norm.beta.numpy() if norm.center else 0)]


def knows_other(base: str) -> bool:
    """Whether a base has a trained head for another finding."""
    return is_file(base) and len(load_keras(Path(base)).outputs) == 2


def of_size(network: keras.Model, size: int) -> keras.Model:
    """The same network, with the same weights, for photos of another size; convolutions do not mind."""
    if network.inputs[0].shape[1] == size:
        return network
    images = keras.tree.map_structure(lambda _: keras.Input((size, size, 3), name="image"), network.input)
    resized = keras.models.clone_model(network, input_tensors=images)
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
