"""Serves the bundled model from environments that MLflow makes of its pinned requirements, and times the first answer.

    python benchmarks/environments.py

Without a registry. `virtualenv` needs pyenv; `uv` needs uv. An environment is made anew each time, which takes a minute or two.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from lifecycle.resolve import bundled_model
from tests.servers import PROJECT, environment, serve_model

MANAGERS = ("virtualenv", "uv")


def main() -> None:
    photo = (PROJECT / "samples" / "retina.jpg").read_bytes()
    for manager in MANAGERS:
        with tempfile.TemporaryDirectory() as folder:
            env = environment(MLFLOW_ENV_ROOT=f"{folder}/envs")
            model = bundled_model(Path(folder) / "model")
            start = time.perf_counter()
            with serve_model(str(model), Path(folder) / "served", env, "--env-manager", manager) as server:
                (answer,) = server.classify(photo)
                seconds = time.perf_counter() - start
                programs = {Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode() for pid in server.workers()}
        own = all(one.startswith(f"{folder}/envs") for one in programs)
        print(f"{manager}: version {answer['model_version']} answered after {seconds:.0f} s, in its own environment: {own}")


if __name__ == "__main__":
    main()
