"""A model file of any Keras version -> one that this Keras reads by itself."""

import importlib.util
import json
import logging
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np

from eye_disease.common.paths import IMPORT_ROOT
from eye_disease.conversion.agreement import MAX_DIFFERENCE
from eye_disease.conversion.keras2_model import read_keras2
from eye_disease.conversion.keras2_reader import ANSWERS, MODEL
from eye_disease.conversion.known_layers import FOREIGN, OF_APPLICATIONS, known_objects
from eye_disease.conversion.operations import has_operations, operations
from model_code.custom_objects import objects_file, read_objects
from model_code.model_error import ModelError

_logger = logging.getLogger(__name__)
_EXTRA = "tf-keras (pip install -r requirements-keras2.txt)"


def written_by(source: Path) -> str:
    """Version of the Keras that wrote a `.keras` or `.h5` file, or a SavedModel folder. Raises ModelError for anything else."""
    try:
        if source.is_dir() and (source / "saved_model.pb").is_file():
            return "2 (a SavedModel folder)"
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                return str(json.loads(archive.read("metadata.json"))["keras_version"])
        if source.is_file() and h5py.is_hdf5(source):
            with h5py.File(source) as opened:
                return str(opened.attrs.get("keras_version", "1"))
    except (KeyError, ValueError, OSError) as error:
        raise ModelError(f"{source} is damaged, or no Keras model ({error}).") from error
    raise ModelError(f"{source} is not a Keras model file. Expected an existing .keras or .h5 file, or a SavedModel folder.")


def as_keras3(source: Path, folder: Path, layers_file: Path | None = None) -> Path:
    """A `.keras` or `.h5` file with the same network, which load_keras reads: the source itself where nothing is to be done.

    folder: an empty one, for what is made. layers_file: Python code of the model's own layers; a copy of it then lies beside
    the result. Raises ModelError with which Keras wrote the source and what to do, where it cannot be read.
    """
    version = written_by(source)
    own = read_objects(layers_file) if layers_file else {}
    objects = known_objects(keras) | own
    try:
        if version.split(".")[0] == "3":
            return _of_keras3(source, folder, objects, layers_file)
        model = _of_keras2(source, folder, objects, version, layers_file)
    except subprocess.CalledProcessError as error:
        raise _unreadable(source, version, (error.stderr.strip().splitlines() or ["tf-keras says nothing"])[-1]) from error
    except Exception as error:  # what Keras raises for a file that it cannot read is not documented
        raise _unreadable(source, version, (str(error).strip().splitlines() or [type(error).__name__])[0]) from error
    made = folder / "own.keras"
    model.save(made)
    if layers_file:
        shutil.copyfile(layers_file, objects_file(made))
    return made


def _of_keras3(source: Path, folder: Path, objects: dict[str, object], layers_file: Path | None) -> Path:
    """The source; or, where Keras itself would not read all that it holds, a `.keras` file of it, which it does."""
    if source.suffix not in (".keras", ".h5"):
        raise ModelError("its suffix is neither .keras nor .h5")
    names, architecture = FOREIGN, _architecture(source)
    if is_h5 := source.suffix == ".h5":
        names, objects = (*FOREIGN, *OF_APPLICATIONS), operations() | objects
    is_known = not any(f'"{name}"' in architecture for name in names) and not (is_h5 and has_operations(architecture))
    made = folder / (f"own{source.suffix}" if is_known else "own.keras")
    if layers_file:
        shutil.copyfile(layers_file, objects_file(made))
    if not is_known:
        keras.models.load_model(source, compile=False, custom_objects=objects).save(made)
        return made
    return Path(shutil.copyfile(source, made)) if layers_file else source


def _architecture(source: Path) -> str:
    if h5py.is_hdf5(source):
        with h5py.File(source) as opened:
            return str(opened.attrs.get("model_config", ""))
    with zipfile.ZipFile(source) as archive:
        return archive.read("config.json").decode()


def _of_keras2(source: Path, folder: Path, objects: dict[str, object], version: str, layers_file: Path | None) -> keras.Model:
    """Read by tf-keras and built anew, and held against tf-keras' own answers; an `.h5` also without tf-keras."""
    if not importlib.util.find_spec("tf_keras"):
        if not h5py.is_hdf5(source):
            raise ModelError(f"such a file needs {_EXTRA}")
        _logger.warning("%s was written by Keras %s. Install %s to have it compared with that.", source, version, _EXTRA)
        return read_keras2(source, objects)
    command = [sys.executable, "-m", "eye_disease.conversion.keras2_reader", str(source.resolve()), str(folder)]
    command += [str(layers_file.resolve())] if layers_file else []
    subprocess.run(command, cwd=IMPORT_ROOT, capture_output=True, text=True, check=True)
    model = read_keras2(folder / MODEL, objects)
    with np.load(folder / ANSWERS) as stored:
        expected, given = stored["answers"], np.asarray(model(stored["photos"], training=False))
    difference = float(np.abs(given - expected).max() / max(1.0, np.abs(expected).max()))
    if not difference <= MAX_DIFFERENCE:
        raise ModelError(f"built anew in Keras 3 it answers otherwise (by {difference:.2g})")
    return model


def _unreadable(source: Path, version: str, reason: str) -> ModelError:
    return ModelError(
        f"{source} was written by Keras {version} and cannot be read: {reason.rstrip('.')}. Save it anew with Keras 3, as a "
        "functional model of Keras' own layers, or name a Python file that defines its own layers with --custom-objects."
    )
