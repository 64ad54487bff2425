"""Replaces this process by `mlflow models serve`."""

import os
import sys
from pathlib import Path

from eye_disease.serving.resolve import Resolved


def exec_server(model: Resolved, host: str, port: int, workers: int, env_manager: str) -> None:
    """Serve a resolved model folder; does not return. Signals and exit status are MLflow's own from here on."""
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model.folder), "--host", host]
    command += ["--port", str(port), "--workers", str(workers), "--env-manager", env_manager]
    # MLflow looks for `uvicorn` on the PATH, where a virtual environment that is not activated has none.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    os.execve(sys.executable, command, os.environ | {"MODEL_SOURCE": model.source, "PATH": path})
