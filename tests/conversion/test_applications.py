"""Two of the networks that benchmarks/own_models.py tries all of: registered, converted, compared, served. Loads TensorFlow."""

from pathlib import Path

import keras
import pytest

from benchmarks.own_models import build, register, spread

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")


@pytest.mark.parametrize(
    ("family", "form", "suffix", "heatmap"),
    [("MobileNet", "wrapped", ".h5", True), ("MobileNetV3Small", "whole", ".keras", False)],
)
def test_an_application_is_served_by_litert(family: str, form: str, suffix: str, heatmap: bool, tmp_path: Path) -> None:
    (tmp_path / family).mkdir()
    keras.backend.clear_session()
    spread(model := build(family, form))
    model.save(file := tmp_path / family / f"{form}{suffix}")
    found = register(file)
    assert (found.runtime, found.heatmap, found.served) == ("litert", heatmap, True)
    assert found.difference < 1e-3
