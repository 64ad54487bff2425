"""Files of Keras 2, and files with well-known or own layers, are read with the answers that they gave. Loads TensorFlow."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from eye_disease.conversion import keras_source
from eye_disease.conversion.keras2_model import read_keras2
from eye_disease.conversion.keras_source import as_keras3, written_by
from eye_disease.conversion.known_layers import known_objects
from eye_disease.registry.keras_import import find_layers_file, package_own_model
from model_code.keras_model import load_keras
from model_code.model_error import ModelError
from model_code.preprocessing import Recipe
from tests.support.keras2_files import LAYERS, SIDE
from tests.support.servers import PROJECT

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
CLASSES = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What tests.support.keras2_files writes, and `layers.py`."""
    pytest.importorskip("tf_keras", reason="needs tf-keras (requirements-keras2.txt)")
    folder = tmp_path_factory.mktemp("keras2")
    subprocess.run([sys.executable, "-m", "tests.support.keras2_files", str(folder)], cwd=PROJECT, check=True)
    (folder / "layers.py").write_text(LAYERS)
    return folder


def _difference(model: keras.Model, files: Path, name: str) -> float:
    """Largest, of a probability, from what Keras 2 answered; its answers differ from each other."""
    with np.load(files / f"{name}.npz") as said:
        assert said["answers"].std(axis=0).max() > 1e-3
        return float(np.abs(np.asarray(model(said["photos"], training=False)) - said["answers"]).max())


@pytest.mark.parametrize(
    ("name", "most"),
    [
        *((name, 1e-3) for name in ("branched", "dropout", "operations", "caffe", "tf", "sequential")),
        ("mixed", 5e-2),  # Keras 2 computed it in float16
    ],
)
def test_an_h5_of_keras_2_answers_as_it_did(name: str, most: float, files: Path) -> None:
    assert _difference(read_keras2(files / f"{name}.h5", known_objects(keras)), files, name) < most


def test_half_precision_is_no_difference(files: Path, tmp_path: Path) -> None:
    """Both are asked in float32."""
    assert _difference(load_keras(as_keras3(files / "mixed.h5", tmp_path)), files, "mixed") < 5e-2


@pytest.mark.parametrize("file", ["sequential.keras", "sequential"])
def test_the_other_formats_of_keras_2_go_through_tf_keras(file: str, files: Path, tmp_path: Path) -> None:
    made = as_keras3(files / file, tmp_path)
    assert made.suffix == ".keras"
    assert written_by(made).startswith("3")
    assert _difference(load_keras(made), files, "sequential") < 1e-3


def test_a_model_with_layers_of_its_own_is_registered_with_their_code(files: Path, tmp_path: Path) -> None:
    recipe = Recipe(SIDE, crop="none", scaling="unit")
    facts = package_own_model(files / "gate.h5", tmp_path, "own", CLASSES, recipe, layers_file=files / "layers.py")
    assert facts.runtime == "litert"
    assert facts.provenance["written_by_keras"].startswith("2.")
    assert _difference(load_keras(tmp_path / "classifier.keras"), files, "gate") < 1e-3


@pytest.mark.parametrize(("file", "reason"), [("gate.h5", "Gate"), ("hard.h5", "hard_sigmoid")])
def test_what_cannot_be_read_is_refused_in_a_sentence(file: str, reason: str, files: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=rf"{file} was written by Keras 2\..*{reason}.*Save it anew.*--custom-objects"
    ) as caught:
        as_keras3(files / file, tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_without_tf_keras_it_is_named(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keras_source.importlib.util, "find_spec", lambda name: None)
    assert _difference(load_keras(as_keras3(files / "branched.h5", tmp_path)), files, "branched") < 1e-3
    assert "Install tf-keras (pip install -r requirements-keras2.txt) to have it compared" in caplog.text
    with pytest.raises(ModelError, match=r"needs tf-keras \(pip install -r requirements-keras2.txt\)"):
        as_keras3(files / "sequential.keras", tmp_path)


class FixedDropout(layers.Dropout):
    pass


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_well_known_layers_need_no_code(suffix: str, tmp_path: Path) -> None:
    image = keras.Input((SIDE, SIDE, 3))
    pooled = FixedDropout(0.3)(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image)))
    model = keras.Model(image, layers.Dense(4, activation="softmax")(pooled))
    model.save(source := tmp_path / f"efficientnet{suffix}")
    (made := tmp_path / "made").mkdir()
    photo = np.random.default_rng(0).uniform(0, 1, (1, SIDE, SIDE, 3))
    assert np.asarray(load_keras(as_keras3(source, made))(photo)) == pytest.approx(np.asarray(model(photo)), abs=1e-6)


def test_a_file_of_keras_3_is_taken_as_it_is(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), layers.GlobalAveragePooling2D(), layers.Dense(4)])
    model.save(source := tmp_path / "own.keras")
    assert as_keras3(source, tmp_path) == source


@pytest.mark.parametrize("name", ["absent.keras", "junk.h5", "junk.keras", "folder"])
def test_what_is_no_model_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "junk.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "junk.keras").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ModelError, match=f"{name} is"):
        written_by(tmp_path / name)


def test_code_of_layers_is_a_file_or_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_layers.py").write_text(LAYERS)
    monkeypatch.chdir(tmp_path)
    assert find_layers_file("") is None
    assert find_layers_file("my_layers.py") == Path("my_layers.py")
    assert find_layers_file("my_layers").samefile("my_layers.py")
    for wrong in ("absent", "absent.py", "a..b", "sys"):
        with pytest.raises(ModelError, match=f"--custom-objects {wrong}: expected a Python file"):
            find_layers_file(wrong)
