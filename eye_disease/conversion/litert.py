"""Keras -> LiteRT."""

import tempfile

import keras
import numpy as np
import tensorflow as tf

from eye_disease.conversion.quantization import quantizable, quantized
from model_code.keras_model import with_heads


def to_litert(model: keras.Model, input_size: int, examples: np.ndarray | None = None) -> bytes:
    """The LiteRT file of `with_heads` for one image, built-in operators only; the input is named `image`.

    It is float32; with `examples`, float32 (N, S, S, 3) photos scaled as for the network, its deep layers are quantized.

    Raises UserError for a model without layers to quantize, and whatever TensorFlow's converter raises for a model that it
    cannot convert (its kinds are not documented).
    """
    network = with_heads(model if examples is None else quantizable(model))
    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint(
        "serving_default",
        lambda image: network(image, training=False),
        input_signature=[tf.TensorSpec((1, input_size, input_size, 3), tf.float32, name="image")],
    )
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        if examples is not None:
            return quantized(folder, examples)
        return bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())
