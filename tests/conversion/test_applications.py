"""Two of the networks that benchmarks/own_models.py tries all of: registered, converted, compared, served. Loads TensorFlow."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks.own_models import build, register, spread
from eye_disease.conversion.keras_source import as_keras3
from model_code.keras_model import load_keras
from tests.support.servers import PROJECT

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")


@pytest.mark.parametrize(
    ("family", "form", "suffix", "heatmap"),
    [
        ("MobileNet", "wrapped", ".h5", True),
        ("MobileNetV3Small", "whole", ".keras", False),
        ("MobileNetV3Small", "nested", ".h5", True),
    ],
)
def test_an_application_is_served_by_litert(family: str, form: str, suffix: str, heatmap: bool, tmp_path: Path) -> None:
    (tmp_path / family).mkdir()
    keras.backend.clear_session()
    spread(model := build(family, form))
    model.save(file := tmp_path / family / f"{form}{suffix}")
    found = register(file)
    assert (found.runtime, found.heatmap, found.served) == ("litert", heatmap, True)
    assert found.difference < 1e-3


def test_layers_that_keras_keeps_to_its_applications_are_found_for_an_h5_file(tmp_path: Path) -> None:
    """Those of InceptionResNetV2 and ConvNeXt, of which an `.h5` file says the name alone."""
    from keras.src.applications.convnext import LayerScale, StochasticDepth
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    maps = keras.layers.Conv2D(4, 3, padding="same")(image)
    scaled = LayerScale(0.5, 4)(keras.layers.Conv2D(4, 3, padding="same")(maps))
    mixed = CustomScaleLayer(0.3)([maps, StochasticDepth(0.1)(scaled)])
    answer = keras.layers.Dense(4, activation="softmax")(keras.layers.GlobalAveragePooling2D()(mixed))
    model = keras.Model(image, answer)
    model.save(file := tmp_path / "saved.h5")
    (made := tmp_path / "made").mkdir()
    code = "import sys; from pathlib import Path; from model_code.keras_model import load_keras; load_keras(Path(sys.argv[1]))"
    read = as_keras3(file, made)
    subprocess.run([sys.executable, "-c", code, str(read)], cwd=PROJECT, check=True, capture_output=True)
    photos = np.random.default_rng(0).uniform(0, 1, (2, 32, 32, 3)).astype(np.float32)
    assert np.asarray(load_keras(read)(photos)) == pytest.approx(np.asarray(model(photos)), abs=1e-6)
