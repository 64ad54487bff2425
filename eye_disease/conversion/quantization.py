"""A LiteRT file whose deep layers count in 8-bit integers: about a third faster, its probabilities within about .03.

Only maps at most a sixteenth as wide as the photo are quantized; they take most of the time. The wide maps before them carry
the finest detail and lose most by it: quantized too, they move the probabilities about six times as far.
"""

import warnings
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from eye_disease.common.errors import UserError

EXAMPLES = 16
"""Photos whose values show the range of every layer; a hundred make the answers no nearer, and take a minute or more."""
_NARROW = 16
"""Maps at least this many times narrower than the photo are quantized."""


def quantizable(model: keras.Model) -> keras.Model:
    """The same function with convolutions of one pixel for Rescaling layers, which the converter cannot leave in float.

    Raises UserError for a model without layers to quantize.
    """
    outputs = [layer.output for layer in model.layers if isinstance(layer.output, keras.KerasTensor)]
    sides = [output.shape[1] for output in outputs if len(output.shape) == 4]
    if min(sides) * _NARROW > max(sides):
        raise UserError(
            "The network has no map a sixteenth as wide as its photos, so there is nothing to quantize. Leave out --quantize."
        )
    cloned = keras.models.clone_model(model, clone_function=_as_convolution)
    for layer in model.layers:
        if layer.weights:
            cloned.get_layer(layer.name).set_weights(layer.get_weights())
    return cloned


def quantized(saved_model: str, examples: np.ndarray) -> bytes:
    """The LiteRT file of a SavedModel with one input, `image`; deep layers are quantized after training.

    examples: float32 (N, S, S, 3), photos scaled as for the network.
    Raises whatever TensorFlow's converter raises for a model it cannot convert (its kinds are not documented).
    """

    def inputs() -> Iterator[dict[str, np.ndarray]]:
        return ({"image": photo[None]} for photo in examples)

    plain = tf.lite.TFLiteConverter.from_saved_model(saved_model).convert()
    tensors = Interpreter(model_content=plain).get_tensor_details()
    in_float = [
        tensor["name"] for tensor in tensors if len(tensor["shape"]) != 4 or tensor["shape"][1] * _NARROW > examples.shape[1]
    ]
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    converter.optimizations, converter.representative_dataset = [tf.lite.Optimize.DEFAULT], inputs
    # The converter itself quantizes all or nothing; its debugger leaves out what it is told to.
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=in_float)
    with warnings.catch_warnings():
        # The debugger makes itself an interpreter of TensorFlow's own.
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is deprecated")
        debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_dataset=inputs, debug_options=options)
        return bytes(debugger.get_nondebug_quantized_model())


def _as_convolution(layer: keras.layers.Layer) -> keras.layers.Layer:
    if not isinstance(layer, keras.layers.Rescaling):
        return type(layer).from_config(layer.get_config())
    channels = layer.output.shape[-1]
    scale, offset = (np.broadcast_to(np.asarray(value, np.float32), channels) for value in (layer.scale, layer.offset))
    return keras.layers.DepthwiseConv2D(
        1,
        depthwise_initializer=keras.initializers.Constant(scale[:, None]),
        bias_initializer=keras.initializers.Constant(offset),
        name=layer.name,
    )
