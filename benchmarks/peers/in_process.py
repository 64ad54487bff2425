"""Peers without a server: the same photos, answered one after another.

`python -m benchmarks.peers.in_process WORK MODEL_FOLDER`, where MODEL_FOLDER is our MLflow model folder and WORK is
    plain     Pillow (`draft`, resize) and LiteRT, nothing else: what any server of this network must at least do
    own       the same two steps by our functions: decode, prepare, scale, infer
    predict   all of our model's `predict`, from a table with base64 text to the table of answers, records written
Reads lines {"photos": [PATH...], "count": N} and answers each with a JSON list of N latencies in milliseconds.
"""

import base64
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from model_code.settings import ServingSettings

Work = Callable[[bytes], None]
THREADS = ServingSettings.from_env().inference_threads
"""Threads of one inference: as many as ours uses for a photo that has its process to itself."""
UNTIMED = 3
"""Photos before each measurement, to warm caches."""


def plain_work(model_folder: Path) -> Work:
    from ai_edge_litert.interpreter import Interpreter

    package = model_folder / "artifacts" / "package"
    size = json.loads((package / "model.json").read_text())["recipe"]["input_size"]
    infer = Interpreter(str(package / "classifier.tflite"), num_threads=THREADS).get_signature_runner()

    def work(photo: bytes) -> None:
        image = Image.open(io.BytesIO(photo))
        image.draft("RGB", (size, size))
        image = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        infer(image=np.asarray(image, np.float32)[None])

    return work


def own_work(model_folder: Path) -> Work:
    from model_code.decode import decode
    from model_code.package import LITERT_FILE, ModelFacts
    from model_code.preprocessing import prepare, scale
    from model_code.runtime import LiteRTRuntime

    package = model_folder / "artifacts" / "package"
    recipe = ModelFacts.load(package).recipe
    max_pixels = ServingSettings.from_env().max_image_pixels
    runtime = LiteRTRuntime(package / LITERT_FILE, threads=THREADS)

    def work(photo: bytes) -> None:
        with runtime.session() as infer:
            infer(scale(prepare(decode(photo, recipe.working_side, max_pixels).image, recipe), recipe))

    return work


def predict_work(model_folder: Path) -> Work:
    import mlflow
    import pandas as pd

    model = mlflow.pyfunc.load_model(str(model_folder))

    def work(photo: bytes) -> None:
        table = pd.DataFrame({"image": [base64.b64encode(photo).decode()], "image_id": ["0"]})
        model.predict(table)

    return work


WORKS = {"plain": plain_work, "own": own_work, "predict": predict_work}


def latencies_ms(work: Work, photos: list[bytes], count: int) -> list[float]:
    for i in range(UNTIMED):
        work(photos[i % len(photos)])
    times = []
    for i in range(count):
        start = time.perf_counter()
        work(photos[i % len(photos)])
        times.append((time.perf_counter() - start) * 1000)
    return times


def main() -> None:
    work = WORKS[sys.argv[1]](Path(sys.argv[2]))
    for line in sys.stdin:
        asked = json.loads(line)
        photos = [Path(path).read_bytes() for path in asked["photos"]]
        print(json.dumps(latencies_ms(work, photos, asked["count"])), flush=True)


if __name__ == "__main__":
    main()
