"""Keras -> LiteRT."""

import tempfile

import keras
import tensorflow as tf

from model_code.keras_model import with_heads


def to_litert(model: keras.Model, input_size: int) -> bytes:
    """The float32 LiteRT file of `with_heads` for one image, built-in operators only; the input is named `image`.

    Raises whatever TensorFlow's converter raises for a model it cannot convert (its kinds are not documented).
    """
    network = with_heads(model)
    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint(
        "serving_default",
        lambda image: network(image, training=False),
        input_signature=[tf.TensorSpec((1, input_size, input_size, 3), tf.float32, name="image")],
    )
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        return bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())
