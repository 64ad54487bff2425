"""The served model and its peers: model folders, commands and requests."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import mlflow
import numpy as np

from benchmarks.children import ChildError, Loop, Server, free_port
from benchmarks.load import Connection, http_request
from eye_disease.common.paths import BUNDLED_PACKAGE
from eye_disease.registry.mlflow_model import save_package
from model_code.canary import TOLERANCE, canary_photo
from model_code.decode import decode
from model_code.package import ModelFacts, keras_file
from model_code.preprocessing import prepare, scale
from model_code.schema import signature

ROOT = Path(__file__).resolve().parent.parent
_PEERS = ROOT / "benchmarks" / "peers"
OURS, NOOP, KERAS, FASTAPI = "ours", "(a) no-op pyfunc", "(c) MLflow Keras flavour", "(d) FastAPI + model.predict"
PLAIN, OWN, PREDICT = "(b) decode + LiteRT", "(b2) our decode + prepare + infer", "(b3) our whole predict"
SERVERS = (OURS, NOOP, KERAS, FASTAPI)
LOOPS = {PLAIN: "plain", OWN: "own", PREDICT: "predict"}
_OWN_SETTINGS = ("MLFLOW_", "_MLFLOW_", "INFERENCE_", "MAX_", "SERVING_", "MODEL_")


class DifferentAnswerError(RuntimeError):
    """Two servers of the same network answer the same photo differently: comparing their speed would mean nothing."""


class Peers:
    """Starts the servers and loops; keeps their models, logs and records below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.facts = ModelFacts.load(BUNDLED_PACKAGE)
        self._env = self._environment()

    def make_models(self) -> None:
        """Write the MLflow model folders."""
        save_package(BUNDLED_PACKAGE, self.model(OURS), "bundled")
        mlflow.pyfunc.save_model(
            str(self.model(NOOP)),
            python_model=str(_PEERS / "noop_model.py"),
            signature=signature(self.facts.classes),
            pip_requirements=[f"mlflow=={mlflow.__version__}"],
        )
        command = [sys.executable, "-m", "benchmarks.peers.keras_flavour", keras_file(BUNDLED_PACKAGE), self.model(KERAS)]
        # In a process of its own, so that TensorFlow does not stay in the one that sends the requests.
        done = subprocess.run(command, cwd=ROOT, env=self._env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ChildError(f"the Keras flavour could not be saved: {done.stderr[-2000:]}")

    def server(self, name: str) -> Server:
        """Start one of SERVERS."""
        port = free_port()
        return Server(self._command(name, port), port, self._env, self._folder, self._log(name))

    def loop(self, name: str) -> Loop:
        """Start one of LOOPS."""
        command = [sys.executable, "-m", "benchmarks.peers.in_process", LOOPS[name], str(self.model(OURS))]
        return Loop(command, self._env, ROOT, self._log(name))

    def requests(self, name: str, photos: Sequence[bytes]) -> list[bytes]:
        """The photos as HTTP requests to one of SERVERS."""
        return [self._request(name, photo, str(i)) for i, photo in enumerate(photos)]

    def require_same_answers(self, servers: dict[str, Server]) -> None:
        """Raises DifferentAnswerError if ours and the Keras flavour differ on the canary photo, or ours has no answer."""
        answers = {}
        for name in (OURS, KERAS):
            with Connection(servers[name].port) as connection:
                request = self._request(name, canary_photo(BUNDLED_PACKAGE), "0")
                answers[name] = json.loads(connection.send(request))["predictions"][0]
        if answers[OURS]["error"]:
            raise DifferentAnswerError(f"ours answers the canary with: {answers[OURS]['error']}")
        given = np.array([answers[OURS][f"prob_{name}"] for name in self.facts.classes])
        exponent = np.exp(np.array(answers[KERAS]) / self.facts.temperature)
        if (difference := np.abs(given - exponent / exponent.sum()).max()) > TOLERANCE:
            raise DifferentAnswerError(f"a probability of the canary differs by {difference:.3f} between ours and {KERAS}")

    def _request(self, name: str, photo: bytes, image_id: str) -> bytes:
        if name == KERAS:
            recipe = self.facts.recipe
            tensor = scale(prepare(decode(photo, recipe.working_side, 50_000_000).image, recipe), recipe)
            return http_request("/invocations", json.dumps({"inputs": tensor.tolist()}).encode())
        text = base64.b64encode(photo).decode()
        if name == FASTAPI:
            return http_request("/predict", json.dumps({"image": text}).encode())
        rows = [{"image": text, "image_id": image_id}]
        return http_request("/invocations", json.dumps({"dataframe_records": rows}).encode())

    def _command(self, name: str, port: int) -> list[str]:
        address = ["--host", "127.0.0.1", "--port", str(port)]
        if name == FASTAPI:
            return [sys.executable, "-m", "uvicorn", "--app-dir", str(_PEERS), *address, "fastapi_app:app"]
        serve = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(self.model(name))]
        return [*serve, "--env-manager", "local", *address]

    def model(self, name: str) -> Path:
        """Folder of a server's MLflow model."""
        return self._folder / "models" / _file_name(name)

    def _log(self, name: str) -> Path:
        return self._folder / f"{_file_name(name)}.log"

    def _environment(self) -> dict[str, str]:
        """The caller's environment without settings of MLflow and of our model, which would change what is measured."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_SETTINGS)}
        return kept | {
            # MLflow looks for `uvicorn` on the PATH, where a virtual environment that is not activated has none.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PACKAGE": str(BUNDLED_PACKAGE),
            "INFERENCE_LOG_DIR": str(self._folder / "inference_logs"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self._folder}/mlflow.db",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1",
        }


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)
