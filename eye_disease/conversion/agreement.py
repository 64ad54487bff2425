"""The check that a package's LiteRT file answers as the Keras file does that it was converted from.

Run as `python -m eye_disease.conversion.agreement PACKAGE`, in a process of its own where TensorFlow must not be imported.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from eye_disease.common.errors import UserError
from model_code.canary import canary_photo
from model_code.decode import decode
from model_code.package import LITERT_FILE, ModelFacts, keras_file
from model_code.preprocessing import prepare, scale
from model_code.runtime import LiteRTRuntime
from model_code.settings import ServingSettings

MAX_DIFFERENCE, _MAX_QUANTIZED = 0.005, 0.1
_REMEDY = "Register the model with --runtime keras, which serves the Keras model itself."
_REMEDY_QUANTIZED = "Package the network without --quantize."


def max_difference(facts: ModelFacts) -> float:
    """Largest difference of a probability between Keras and LiteRT that registration accepts.

    A quantized network answers a little otherwise; its temperature, limits and figures are its own, not those of Keras.
    """
    return _MAX_QUANTIZED if facts.quantized else MAX_DIFFERENCE


class DisagreementError(UserError):
    """LiteRT and Keras answer differently; the model must not be registered."""


def recompute(package: Path) -> float:
    """Largest difference of a probability on the package's canary photo and its variations; imports TensorFlow."""
    facts = ModelFacts.load(package)
    max_pixels = ServingSettings.from_env({}).max_image_pixels
    return largest_difference(package, facts, decode(canary_photo(package), facts.recipe.working_side, max_pixels).image)


def largest_difference(package: Path, facts: ModelFacts, photo: Image.Image) -> float:
    """Largest difference of any class's probability between a package's LiteRT and Keras files.

    Compared on an RGB photo, on its mirror images, darkened and brightened forms, and on noise.
    """
    from model_code.keras_model import load_keras, with_heads  # imports TensorFlow, which the limit above does not need

    network = with_heads(load_keras(keras_file(package)))
    views = _varied(prepare(photo, facts.recipe))
    inputs = np.concatenate([scale(view, facts.recipe) for view in views])
    expected = _probabilities(network.predict(inputs, verbose=0)["output"], facts)
    with LiteRTRuntime(package / LITERT_FILE, threads=1).session() as infer:
        given = _probabilities(np.stack([infer(x[None])["output"] for x in inputs]), facts)
    return float(np.abs(expected - given).max())


def require_agreement(difference: float, facts: ModelFacts) -> None:
    """Raises DisagreementError if a difference of probabilities is above `max_difference`, or not a number."""
    if not difference <= (limit := max_difference(facts)):
        raise DisagreementError(
            f"LiteRT and Keras give probabilities up to {difference:.4f} apart; at most {limit} is accepted. "
            f"{_REMEDY_QUANTIZED if facts.quantized else _REMEDY}"
        )


def _varied(view: np.ndarray) -> list[np.ndarray]:
    noise = np.random.default_rng(0).integers(0, 256, view.shape, dtype=np.uint8)
    scaled = [(view * factor).clip(0, 255).astype(np.uint8) for factor in (0.4, 0.7, 1.4)]
    return [view, view[:, ::-1], view[::-1], np.swapaxes(view, 0, 1), *scaled, noise]


def _probabilities(output: np.ndarray, facts: ModelFacts) -> np.ndarray:
    if facts.output_kind == "probabilities":
        return output
    exponent = np.exp(output - output.max(axis=1, keepdims=True))
    return np.asarray(exponent / exponent.sum(axis=1, keepdims=True))


if __name__ == "__main__":
    print(recompute(Path(sys.argv[1])))
