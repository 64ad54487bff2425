"""The network in float32, float16 and int8: size, latency, agreement with float32, accuracy.

    python benchmarks/variants.py --photos-dir FOLDER [--package models] [--write]

FOLDER holds fundus photos in `fundus/` and their `manifest.csv`. Needs TensorFlow. The variants take
turns, on one thread.
"""

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "TF_CPP_MIN_LOG_LEVEL": "3"}

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from scipy.special import softmax

from benchmarks.figures import table
from benchmarks.machine import machine_lines, write_section
from model_code.decode import decode
from model_code.keras_model import load_keras, with_heads
from model_code.package import ModelFacts, keras_file
from model_code.preprocessing import Recipe, prepare, scale
from model_code.runtime import LiteRTRuntime

ROUNDS, CALLS = 20, 10
CALIBRATION = 200
"""Training photos that full int8 takes its ranges from."""
_NOTES = """
- Largest difference: of a probability from float32's, on the validation photos. Other class: share of photos with another
  answer.
- float32 is bundled. float16 only halves the file; the int8 forms move probabilities, and so decisions and what drift is
  told by.
"""


@dataclass(frozen=True)
class Photos:
    """Scaled views of a split, float32 (1, S, S, 3) each, and their labels."""

    views: list[np.ndarray]
    labels: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos-dir", type=Path, required=True, help="folder with manifest.csv and fundus/")
    parser.add_argument("--package", type=Path, default=Path("models"), help="model package with its Keras file")
    parser.add_argument("--write", action="store_true", help="replace the section `Variants` of benchmarks/RESULTS.md")
    asked = parser.parse_args()
    facts = ModelFacts.load(asked.package)
    training = read(asked.photos_dir, "train", facts, CALIBRATION)
    validation = read(asked.photos_dir, "val", facts, None)
    files = convert(with_heads(load_keras(keras_file(asked.package))), facts.recipe, training.views)
    command = "python benchmarks/variants.py --photos-dir FOLDER" + " --write" * asked.write
    head = "\n".join([*machine_lines(("tensorflow", "ai-edge-litert", "numpy")), f"- Command: `{command}`"])
    text = "\n\n".join([head, compare(files, validation, facts), _NOTES.strip()])
    print(text)
    if asked.write:
        write_section("Variants", text)


def read(folder: Path, split: str, facts: ModelFacts, count: int | None) -> Photos:
    """The photos of a split (at most `count`, chosen at random), as the network takes them."""
    rows = pd.read_csv(folder / "manifest.csv")
    rows = rows[rows["split"] == split]
    rows = rows.sample(count, random_state=0) if count else rows
    views = []
    for path in rows["path"]:
        photo = decode((folder / "fundus" / path).read_bytes(), facts.recipe.working_side, 10**8).image
        views.append(scale(prepare(photo, facts.recipe), facts.recipe))
    return Photos(views, rows["label"].map(facts.classes.index).to_numpy())


def convert(network: keras.Model, recipe: Recipe, calibration: list[np.ndarray]) -> dict[str, bytes]:
    """Name -> LiteRT file."""
    archive = keras.export.ExportArchive()
    archive.track(network)
    shape = (1, recipe.input_size, recipe.input_size, 3)
    archive.add_endpoint(
        "serving_default",
        lambda image: network(image, training=False),
        input_signature=[tf.TensorSpec(shape, tf.float32, name="image")],
    )
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        for name in ("float32", "float16", "dynamic int8", "full int8"):
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            if name != "float32":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if name == "float16":
                converter.target_spec.supported_types = [tf.float16]
            if name == "full int8":
                converter.representative_dataset = lambda: ({"image": view} for view in calibration)
            found[name] = converter.convert()
    return found


def compare(files: dict[str, bytes], photos: Photos, facts: ModelFacts) -> str:
    """The table."""
    with tempfile.TemporaryDirectory() as folder:
        runtimes = {}
        for name, data in files.items():
            path = Path(folder) / f"{name}.tflite"
            path.write_bytes(data)
            runtimes[name] = LiteRTRuntime(path, threads=1)
        times: dict[str, list[float]] = {name: [] for name in files}
        for _ in range(ROUNDS):
            for name, runtime in runtimes.items():
                with runtime.session() as infer:
                    for view in photos.views[:CALLS]:
                        start = time.perf_counter()
                        infer(view)
                        times[name].append((time.perf_counter() - start) * 1000)
        lines, reference = [], None
        for name, runtime in runtimes.items():
            with runtime.session() as infer:
                logits = np.stack([infer(view)["output"] for view in photos.views])
            probabilities = softmax(logits / facts.temperature, axis=1)
            reference = probabilities if reference is None else reference
            moved = np.abs(probabilities - reference).max()
            other = (probabilities.argmax(axis=1) != reference.argmax(axis=1)).mean()
            accuracy = (probabilities.argmax(axis=1) == photos.labels).mean()
            figures = (f"{len(files[name]) / 1e6:.1f}", f"{np.median(times[name]):.1f}", f"{min(times[name]):.1f}")
            lines.append((name, *figures, f"{moved:.4f}", f"{other:.3f}", f"{accuracy:.3f}"))
    header = ("variant", "MB", "ms (median)", "ms (least)", "largest difference", "other class", "accuracy")
    return table(header, lines)


if __name__ == "__main__":
    main()
