"""Mutated image files through the classifier: no crash, no `internal_error`, memory, time and log within their bounds.

python benchmarks/fuzz_decode.py [--inputs 20000] [--seed 1] [--write]
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import numpy as np
from PIL import Image

from benchmarks.figures import table
from benchmarks.machine import machine_lines, write_section
from benchmarks.mutations import mutated, seeds
from eye_disease.common.paths import BUNDLED_PACKAGE
from model_code.classifier import Classifier
from model_code.settings import ServingSettings

THREADS = 2
BOUND_MIB = 256
"""Of one photo, as docs/SERVING.md says."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000, help="mutated files (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="replace the section `Fuzzing the decoders` of RESULTS.md")
    asked = parser.parse_args()
    classifier = Classifier(BUNDLED_PACKAGE, "fuzz", ServingSettings.from_env({"INFERENCE_THREADS": str(THREADS)}))
    files = seeds(Image.open(BUNDLED_PACKAGE / "canary.jpg"))
    for data in files.values():  # starts the workers and all that is made once
        if code := classifier.classify(data).answer["error_code"]:
            sys.exit(f"a sound file is refused: {code}")
    with tempfile.TemporaryFile() as log:
        answers, seconds, grown = _campaign(classifier, list(files.values()), asked.inputs, asked.seed, log.fileno())
        lines = log.seek(0) or log.read().count(b"\n")
    failed = answers["internal_error"]
    rows = [
        ("files", f"{asked.inputs:,}", ""),
        ("answered all the same", f"{answers['answered']:,}", ""),
        *((f"refused: {code}", f"{count:,}", "") for code, count in answers.most_common() if code != "answered"),
        ("internal_error", f"{failed:,}", _verdict(failed == 0)),
        ("slowest photo, s", f"{seconds:.2f}", _verdict(seconds < 15)),
        ("memory gained, process and workers, MiB", f"{grown:,.0f}", _verdict(grown <= THREADS * BOUND_MIB)),
        ("lines on standard error", f"{lines:,}", _verdict(lines == 0)),
    ]
    command = (
        f"- Command: `python benchmarks/fuzz_decode.py --inputs {asked.inputs} --seed {asked.seed}{' --write' * asked.write}`"
    )
    head = "\n".join([*machine_lines(("pillow", "numpy", "ai-edge-litert")), command])
    note = f"- {len(files)} sound files of 96 px, each in another format, mode or compression; one to four random changes each"
    note += " (`benchmarks/mutations.py`), through the whole classifier."
    text = f"{head}\n\n{table(('what', 'measured', 'verdict'), rows)}\n\n{note}"
    print(text)
    if asked.write:
        write_section("Fuzzing the decoders", text)


def _campaign(
    classifier: Classifier, files: list[bytes], inputs: int, seed: int, log: int
) -> tuple[Counter[str], float, float]:
    """(answers by error code, seconds of the slowest, MiB gained); what is written to standard error goes to `log`."""
    answers: Counter[str] = Counter()
    slowest = 0.0

    def classify(number: int) -> tuple[str, float]:
        rng = np.random.default_rng((seed, number))
        data = mutated(files[number % len(files)], files[int(rng.integers(len(files)))], rng)
        start = time.perf_counter()
        code = classifier.classify(data).answer["error_code"]
        return code or "answered", time.perf_counter() - start

    before, kept = sum(_resident(pid) for pid in _own_and_workers()), os.dup(2)
    peak = before
    os.dup2(log, 2)
    try:
        with ThreadPoolExecutor(THREADS) as executor:
            for done, (code, seconds) in enumerate(executor.map(classify, range(inputs))):
                answers[code] += 1
                slowest = max(slowest, seconds)
                if done % 50 == 0:
                    peak = max(peak, sum(_resident(pid) for pid in _own_and_workers()))
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    return answers, slowest, peak - before


def _own_and_workers() -> list[int]:
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return [os.getpid(), *(int(pid) for path in children for pid in path.read_text().split())]


def _resident(pid: int) -> float:
    """Largest resident memory of a process so far, MiB; 0 if it has ended."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def _verdict(kept: bool) -> str:
    return "pass" if kept else "**MISSED**"


if __name__ == "__main__":
    main()
