"""A Keras classifier seen as one function image -> output, embedding, feature map.

Imports Keras; serving imports it only for a model that LiteRT cannot convert.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import keras

from model_code.custom_objects import objects_file, read_objects
from model_code.flat_model import flattened
from model_code.model_error import ModelError

OTHER_FINDING = "other_finding"
"""Name of the dense layer, of one logit, that says whether the photo shows a disease outside the classes."""
MEAN_POOLING = keras.layers.GlobalAveragePooling2D
BEHIND_DENSE = (keras.layers.Activation, keras.layers.Softmax, keras.layers.Flatten, keras.layers.Reshape)
"""What may follow the last dense layer; a shape that is not (N, C) is refused elsewhere."""


@dataclass(frozen=True)
class Anatomy:
    """What the served model needs to know about a Keras classifier's layers."""

    output_kind: str
    """`logits` or `probabilities` (the network ends in a softmax)."""
    embedding: keras.KerasTensor
    """Input of the last dense layer, (N, D)."""
    feature_map: keras.KerasTensor | None
    """Last feature map, (N, h, w, D), where the embedding is its mean; None where it is not."""
    dense: keras.layers.Dense | keras.layers.Conv2D
    """The last dense layer (see `_is_dense`); its weights make the class-activation map."""
    other_finding: keras.layers.Dense | None = None
    """The layer OTHER_FINDING, on the same embedding; None where there is none."""


def load_keras(path: Path) -> keras.Model:
    """A `.keras` or `.h5` file, with layers of its own from the file beside it (custom_objects.objects_file), if there is one.

    Raises ModelError with what was expected if it is not a model file.
    """
    if path.suffix not in {".keras", ".h5"} or not path.is_file():
        raise ModelError(f"{path} is not a Keras model file. Expected an existing .keras or .h5 file.")
    own = read_objects(objects_file(path)) if objects_file(path).is_file() else None
    try:
        model = keras.models.load_model(path, compile=False, custom_objects=own)
    except (OSError, TypeError, ValueError) as error:  # what Keras raises for a broken file and for a layer it does not know
        unknown = re.search(r"(Could not locate \w+|Unknown \w+:) '\w+'", str(error))
        reason = unknown[0] if unknown else str(error).strip().splitlines()[0]
        raise ModelError(
            f"{path} cannot be loaded ({reason}). Expected a .keras or .h5 file of Keras' own layers; register.py takes others "
            "with --custom-objects."
        ) from error
    if isinstance(model, keras.Sequential):
        if not model.built:
            raise ModelError(f"{path} has no fixed input shape. Save it with an input layer (keras.Input).")
        model = keras.Model(model.inputs[0], model.outputs[0])
    return flattened(model)


def check_shape(model: keras.Model, classes: tuple[str, ...], input_size: int) -> None:
    """Raises ModelError unless the model maps one (input_size, input_size, 3) photo to one value a class.

    A second output is the logit of a layer named OTHER_FINDING, or refused.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1 + (_other_finding(model) is not None):
        raise ModelError(
            f"The model has {len(model.inputs)} inputs and {len(model.outputs)} outputs. Expected one of each "
            f"(or besides the output of a layer Dense(1) named {OTHER_FINDING})."
        )
    shape = tuple(model.inputs[0].shape)[1:]
    if len(shape) != 3 or any(side not in (None, size) for side, size in zip(shape, (input_size, input_size, 3), strict=True)):
        raise ModelError(f"The model takes images of shape {shape}. Expected {(input_size, input_size, 3)}; see --image-size.")
    outputs = tuple(model.outputs[0].shape)[1:]
    if outputs != (len(classes),):
        raise ModelError(
            f"The model's output has shape {outputs}. Expected {(len(classes),)}, one for each of {list(classes)}."
        )


def dissect(model: keras.Model) -> Anatomy:
    """Find the last dense layer, its input and the feature map under it.

    Raises ModelError where the output is neither logits nor a softmax.
    """
    # `model.layers` would leave out operations such as keras.ops.softmax
    other = _other_finding(model)
    layers = [operation for operation in model.operations if operation is not other]
    last = layers.pop()
    output_kind = "logits"
    if isinstance(last, keras.layers.Softmax) or _activation(last) == "softmax":
        output_kind = "probabilities"
    elif _activation(last) not in (None, "linear"):
        raise ModelError(f"The last layer's activation is {_activation(last)!r}. Expected softmax, or none (logits).")
    while not _is_dense(last):
        if not layers or not isinstance(last, BEHIND_DENSE):
            raise ModelError(f"The model ends in a {type(last).__name__} layer. Expected a Dense layer, or one and a softmax.")
        last = layers.pop()
    embedding = last.input
    if not isinstance(last, keras.layers.Dense):
        embedding = keras.layers.Flatten(name=_unused("embedding_vector", model))(embedding)
    return Anatomy(output_kind, embedding, _feature_map(layers), last, other)


def _other_finding(model: keras.Model) -> keras.layers.Dense | None:
    """The layer whose logit is the model's second output, if it bears the name OTHER_FINDING."""
    made_by = model.outputs[1]._keras_history.operation if len(model.outputs) == 2 else None
    fits = isinstance(made_by, keras.layers.Dense) and made_by.name == OTHER_FINDING and made_by.units == 1
    return made_by if fits and _activation(made_by) in (None, "linear") else None


def _is_dense(layer: keras.Operation) -> bool:
    """Whether it is a Dense layer, or the convolution of a single pixel that MobileNet has instead."""
    if not isinstance(layer, keras.layers.Conv2D):
        return isinstance(layer, keras.layers.Dense)
    return layer.kernel_size == (1, 1) and layer.groups == 1 and tuple(layer.input.shape[1:3]) == (1, 1)


def _activation(layer: keras.layers.Layer) -> str | None:
    activation = getattr(layer, "activation", None)
    return None if activation is None else getattr(activation, "__name__", type(activation).__name__.lower())


def _feature_map(layers: list[keras.layers.Layer]) -> keras.KerasTensor | None:
    """The map whose mean the last dense layer reads; None if anything but mean pooling and dropout lies between."""
    for layer in reversed(layers):
        if isinstance(layer, MEAN_POOLING) and layer.data_format == "channels_last":
            return layer.input
        if not isinstance(layer, keras.layers.Dropout):
            return None
    return None


def with_heads(model: keras.Model) -> keras.Model:
    """float32 (N, S, S, 3) -> `output` (N, C), `embedding` (N, D); where there are, `feature_map`, `style`, `other_finding`.

    These are (N, h, w, D), (N, K) and (N,), a logit.

    The style is of an early map: Huang & Belongie (ICCV 2017) take these statistics for an image's style.
    """
    anatomy = dissect(model)
    tensors = {"output": model.outputs[0], "embedding": anatomy.embedding}
    if anatomy.feature_map is not None:
        tensors["feature_map"] = anatomy.feature_map
    if anatomy.other_finding is not None:
        tensors[OTHER_FINDING] = keras.ops.squeeze(model.outputs[1], axis=1)
    if (early := _early_map(model)) is not None:
        # One layer with a name of its own: those that Keras gives to operations may be in the loaded model already.
        tensors["style"] = Style(name=_unused("style_statistics", model))(early)
    return keras.Model(model.inputs[0], tensors)


class Style(keras.layers.Layer):
    """Feature maps (N, h, w, K) -> mean and logarithmic deviation of each channel, (N, 2 K)."""

    def call(self, maps: keras.KerasTensor) -> keras.KerasTensor:
        """As the class says."""
        mean = keras.ops.mean(maps, axis=(1, 2))
        deviation = keras.ops.sqrt(keras.ops.mean(keras.ops.square(maps), axis=(1, 2)) - keras.ops.square(mean) + 1e-6)
        return keras.ops.concatenate([mean, keras.ops.log(deviation)], axis=1)


def _unused(name: str, model: keras.Model) -> str:
    """`name`, with as many underscores after it as make it no operation's of the model."""
    names = {operation.name for operation in model.operations}
    while name in names:
        name += "_"
    return name


def _early_map(model: keras.Model) -> keras.KerasTensor | None:
    """The last of the narrowest feature maps a sixteenth as wide as the photo (an eighth, if none is so deep), or None.

    Maps an eighth as wide show how the file was saved as much as how the photo was taken, deeper ones only what it shows.
    """
    side = model.inputs[0].shape[1]
    outputs = [layer.output for layer in model.layers]
    maps = [
        output for output in outputs if isinstance(output, keras.KerasTensor) and len(output.shape) == 4 and output.shape[1]
    ]
    if side is None or not maps:
        return None
    size = min((tensor.shape[1] for tensor in maps), key=lambda width: abs(width - side / 16))
    if not side / 24 <= size <= side / 6:
        return None
    fitting = [tensor for tensor in maps if tensor.shape[1] == size]
    width = min(tensor.shape[3] for tensor in fitting)
    return [tensor for tensor in fitting if tensor.shape[3] == width][-1]
