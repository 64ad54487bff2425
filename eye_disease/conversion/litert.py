"""Keras -> LiteRT, and the check that both give the same answer."""

import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from eye_disease.common.errors import UserError
from eye_disease.conversion.agreement import MAX_DIFFERENCE
from model_code.keras_model import load_keras, with_heads
from model_code.package import LITERT_FILE, ModelFacts, keras_file
from model_code.preprocessing import prepare, scale
from model_code.runtime import LiteRTRuntime


class DisagreementError(UserError):
    """LiteRT and Keras answer differently; the model must not be registered."""


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
        return tf.lite.TFLiteConverter.from_saved_model(folder).convert()


def largest_difference(package: Path, facts: ModelFacts, photo: Image.Image) -> float:
    """Largest difference of any class's probability between a package's LiteRT and Keras files.

    Compared on an RGB photo, on its mirror images, darkened and brightened forms, and on noise.
    """
    network = with_heads(load_keras(keras_file(package)))
    views = _varied(prepare(photo, facts.recipe))
    inputs = np.concatenate([scale(view, facts.recipe) for view in views])
    expected = _probabilities(network.predict(inputs, verbose=0)["output"], facts)
    with LiteRTRuntime(package / LITERT_FILE, threads=1).session() as infer:
        given = _probabilities(np.stack([infer(x[None])["output"] for x in inputs]), facts)
    return float(np.abs(expected - given).max())


def require_agreement(difference: float) -> None:
    """Raises DisagreementError if a difference of probabilities is above MAX_DIFFERENCE, or not a number."""
    if not difference <= MAX_DIFFERENCE:
        raise DisagreementError(
            f"LiteRT and Keras give probabilities up to {difference:.4f} apart; at most {MAX_DIFFERENCE} is accepted. "
            "Register the model with --runtime keras, which serves the Keras model itself."
        )


def _varied(view: np.ndarray) -> list[np.ndarray]:
    noise = np.random.default_rng(0).integers(0, 256, view.shape, dtype=np.uint8)
    scaled = [(view * factor).clip(0, 255).astype(np.uint8) for factor in (0.4, 0.7, 1.4)]
    return [view, view[:, ::-1], view[::-1], np.swapaxes(view, 0, 1), *scaled, noise]


def _probabilities(output: np.ndarray, facts: ModelFacts) -> np.ndarray:
    if facts.output_kind == "probabilities":
        return output
    exponent = np.exp(output - output.max(axis=1, keepdims=True))
    return exponent / exponent.sum(axis=1, keepdims=True)
