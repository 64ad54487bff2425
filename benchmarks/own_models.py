"""Keras' own networks as users build and save them: registered, converted, compared, served.

    python benchmarks/own_models.py [--families InceptionV3,Xception] [--work FOLDER] [--write]

Every family is built in each form of FORMS with random weights, and saved as `.keras` and `.h5` in one process; another
process, which has not built it, makes packages of the files and asks them. Needs TensorFlow; about half an hour on two cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "TF_CPP_MIN_LOG_LEVEL": "3"}

from benchmarks.figures import table
from benchmarks.machine import machine_lines, write_section

if TYPE_CHECKING:
    import keras

FAMILIES = {
    "InceptionV3": 75,
    "InceptionResNetV2": 75,
    "Xception": 71,
    "NASNetMobile": 32,
    "DenseNet121": 32,
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "MobileNetV3Large": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "ConvNeXtTiny": 32,
}
"""Name in keras.applications -> the smallest side of a photo that it takes, pixels."""
FORMS = ("whole", "continued", "sequential", "nested", "pooled", "wrapped")
SUFFIXES = (".keras", ".h5")
CLASSES = ("a", "b", "c", "d")
_NOTES = """
- Forms: `whole`, the network with its own top; `continued`, layers added to `base.output`; `sequential`, the base as a layer of
  a Sequential; `nested`, called as a layer of a functional model; `pooled`, the same with its own mean pooling
  (`pooling="avg"`); `wrapped`, the network with its top inside a Sequential, after a Rescaling layer.
- Largest difference: of a probability, LiteRT against Keras, over all files of the family, on a photo, its variations, noise.
- A file that counts in no column is refused, with the reason in a sentence: Keras 3 itself cannot read an `.h5` of ConvNeXt.
- Heatmap: files whose answers have one (the last dense layer reads the mean of a feature map; MobileNetV3's own top has a
  layer between).
- Served: the file's package was logged as an MLflow model, loaded by MLflow, and answered its photo.
"""


@dataclass(frozen=True)
class Found:
    """What became of one file."""

    file: str
    runtime: str
    difference: float
    heatmap: bool
    served: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default=",".join(FAMILIES), help="of keras.applications, by commas")
    parser.add_argument("--work", type=Path, help="keep the files here (a folder that is deleted)")
    parser.add_argument("--write", action="store_true", help="replace the section `Own models` of benchmarks/RESULTS.md")
    parser.add_argument("--step", choices=("save", "register"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    families = tuple(asked.families.split(","))
    if asked.step == "save":
        save(families[0], asked.work)
    elif asked.step == "register":
        print(json.dumps([asdict(found) for file in sorted(asked.work.glob("*.*")) if (found := register_or_refuse(file))]))
    else:
        report(families, asked.work, asked.write)


def report(families: tuple[str, ...], work: Path | None, write: bool) -> None:
    """Both steps for every family, each in a process of its own, and the table."""
    rows = []
    for family in families:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (work or Path(temporary)) / family
            folder.mkdir(parents=True, exist_ok=True)
            step(family, folder, "save")
            found = [Found(**one) for one in json.loads(step(family, folder, "register").splitlines()[-1])]
        rows.append(row(family, found))
        print(" ".join(rows[-1]), flush=True)
    head = "\n".join(
        [*machine_lines(("keras", "tensorflow", "ai-edge-litert")), "- Command: `python benchmarks/own_models.py --write`"]
    )
    header = ("family", "side", "files", "LiteRT", "largest difference", "heatmap", "served")
    text = "\n\n".join([head, table(header, rows), _NOTES.strip()])
    print(text)
    if write:
        write_section("Own models", text)


def step(family: str, folder: Path, name: str) -> str:
    """The standard output of a step. Raises subprocess.CalledProcessError."""
    command = [sys.executable, __file__, "--step", name, "--families", family, "--work", str(folder)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def row(family: str, found: list[Found]) -> tuple[str, ...]:
    """Of the table."""
    count = len(FORMS) * len(SUFFIXES)
    worst = max((one.difference for one in found), default=float("nan"))
    shares = (
        sum(one.runtime == "litert" for one in found),
        sum(one.heatmap for one in found),
        sum(one.served for one in found),
    )
    litert, heatmap, served = (f"{share}/{count}" for share in shares)
    return family, str(FAMILIES[family]), str(count), litert, f"{worst:.1e}", heatmap, served


def save(family: str, folder: Path) -> None:
    """Every form in both formats, as `<form><suffix>`."""
    import keras

    for form in FORMS:
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        model = build(family, form)
        spread(model)
        for suffix in SUFFIXES:
            model.save(folder / f"{form}{suffix}")


def build(family: str, form: str) -> "keras.Model":
    """A network of four classes with random weights."""
    import keras
    from keras import layers

    side = FAMILIES[family]
    shape = (side, side, 3)
    make = getattr(keras.applications, family)

    def top() -> keras.layers.Layer:
        return layers.Dense(len(CLASSES), activation="softmax")

    if form == "whole":
        return make(weights=None, input_shape=shape, classes=len(CLASSES))
    if form == "wrapped":
        whole = make(weights=None, input_shape=shape, classes=len(CLASSES))
        return keras.Sequential([keras.Input(shape), layers.Rescaling(1.0), whole])
    base = make(weights=None, input_shape=shape, include_top=False, pooling="avg" if form == "pooled" else None)
    if form == "continued":
        hidden = layers.GlobalAveragePooling2D()(base.output)
        return keras.Model(base.input, top()(layers.Dropout(0.3)(hidden)))
    if form == "sequential":
        return keras.Sequential([keras.Input(shape), base, layers.GlobalAveragePooling2D(), layers.Dropout(0.3), top()])
    photo = keras.Input(shape)
    hidden = base(photo, training=False)
    hidden = hidden if form == "pooled" else layers.GlobalAveragePooling2D()(hidden)
    return keras.Model(photo, top()(layers.Dropout(0.3)(hidden)))


def spread(model: "keras.Model") -> None:
    """Give normalisations statistics of their own, and spread the answers: untrained networks say nearly the same of all."""
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    every = list(model._flatten_layers())
    for layer in every:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.8, 1.2, layer.moving_variance.shape))
    last = [layer for layer in every if isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D))][-1]
    photos = rng.uniform(0, 255, (8, *model.input_shape[1:])).astype("float32")
    logits = np.log(np.asarray(model(photos)) + 1e-9)
    moved = float((logits - logits.mean(axis=1, keepdims=True)).std())
    last.kernel.assign(np.asarray(last.kernel) * min(2 / max(moved, 1e-6), 1e3))


def register_or_refuse(file: Path) -> Found | None:
    """As `register`; None, and the reason on standard error, for a file that is refused."""
    from model_code.model_error import ModelError

    try:
        return register(file)
    except ModelError as error:
        print(f"Refused: {error}", file=sys.stderr)
        return None


def register(file: Path) -> Found:
    """Make a package of a file, as `register.py --model` does, and serve it."""
    import keras
    import mlflow
    import pandas as pd

    from eye_disease.common.environment import changed
    from eye_disease.registry.keras_import import package_own_model
    from eye_disease.registry.mlflow_model import save_package
    from model_code.canary import canary_photo
    from model_code.preprocessing import Recipe

    keras.backend.clear_session()
    with tempfile.TemporaryDirectory() as temporary:
        (package := Path(temporary) / "package").mkdir()
        recipe = Recipe(FAMILIES[file.parent.name], crop="none", scaling="none")
        facts = package_own_model(file, package, "own", CLASSES, recipe)
        save_package(package, Path(temporary) / "model", "1")
        with changed(INFERENCE_LOG_DIR=f"{temporary}/records"):
            model = mlflow.pyfunc.load_model(str(Path(temporary) / "model"))
            answer = model.predict(pd.DataFrame({"image": [canary_photo(package)]}), params={"explain": True}).iloc[0]
        agreement = facts.provenance.get("keras_agreement", {"largest_difference": float("nan")})
        served = answer["error"] is None and abs(sum(answer[f"prob_{name}"] for name in CLASSES) - 1) < 1e-3
        return Found(file.name, facts.runtime, agreement["largest_difference"], bool(answer["heatmap_png"]), served)


if __name__ == "__main__":
    main()
