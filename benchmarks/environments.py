"""Environments that MLflow makes: serves the bundled model from its pinned requirements, and runs the project's entry point.

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

from eye_disease.serving.resolve import bundled_model
from tests.support.servers import PROJECT, environment, python, serve_model

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
    with tempfile.TemporaryDirectory() as folder:
        env = environment(MLFLOW_ENV_ROOT=f"{folder}/envs", MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db")
        start = time.perf_counter()
        done = python("-m", "mlflow", "run", str(PROJECT), "--env-manager", "uv", env=env, cwd=Path(folder))
        if done.returncode:
            sys.exit(done.stderr)
        print(f"mlflow run . --env-manager uv: {done.stdout.splitlines()[0]} after {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
