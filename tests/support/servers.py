"""Real processes for the tests: servers on free ports, stopped with everything they started."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
NAME = "eye-disease-classifier"
START_LIMIT_S = 180
"""For a server to answer; generous, since CI machines are slow when busy."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without the settings of a developer's own shell."""
    own = (
        "MLFLOW_",
        "INFERENCE_",
        "MAX_",
        "DECODE_",
        "MODEL_",
        "ENABLE_",
        "REGISTRY_",
        "SERVE_",
        "DRIFT_",
        "MONITORING_",
        "HEALTH_",
        "ALERT_",
        "COMPARE_",
        "GATE_",
        "RETRAIN_",
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    venv = Path(sys.executable).parent
    own_settings = {
        "PATH": f"{venv}{os.pathsep}{kept['PATH']}",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "SETTINGS_FILE": "none",  # of a stack that runs in this very checkout
        "GATE_ENV_MANAGER": "local",
        "GATE_RECOMPUTE_AGREEMENT": "false",  # imports TensorFlow; test_gate.py asks for it once
    }
    return kept | own_settings | changes


def run(*command: str, env: dict[str, str], cwd: Path = PROJECT, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; the caller looks at its exit status and output."""
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


def python(*arguments: str, env: dict[str, str], cwd: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, *arguments, env=env, cwd=cwd)


@dataclass
class Served:
    """A server process that answers on `url`."""

    url: str
    process: subprocess.Popen[bytes]
    output: Path
    """File with all it printed."""
    records: Path
    """Its inference log."""

    def post(self, body: bytes, content_type: str = "application/json") -> tuple[int, Any]:
        """(status, decoded JSON or text) of POST /invocations."""
        request = urllib.request.Request(f"{self.url}/invocations", body, {"Content-Type": content_type})
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return response.status, json.loads(response.read(), parse_constant=_refuse_constant)
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            return error.code, text

    def classify(self, *cells: Any, **params: bool) -> list[dict[str, Any]]:
        """Answers to image cells: bytes are sent as base64, anything else as it is."""
        rows = [{"image": base64.b64encode(cell).decode() if isinstance(cell, bytes) else cell} for cell in cells]
        status, answer = self.post(json.dumps({"dataframe_records": rows, "params": params}).encode())
        assert status == 200, answer
        return answer["predictions"]

    def workers(self) -> list[int]:
        """Process ids of everything in the server's process group."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = status.read_text().rpartition(")")[2].split()
            except OSError:  # it has ended since
                continue
            if int(fields[2]) == self.process.pid:
                found.append(int(status.parent.name))
        return found


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All whole records below a folder, any version and process."""
    lines = [line for path in sorted(folder.rglob("*.jsonl")) for line in path.read_text().splitlines(keepends=True)]
    return [json.loads(line) for line in lines if line.endswith("\n")]


@contextmanager
def started(
    command: list[str], url: str, probe: str, folder: Path, env: dict[str, str], cwd: Path | None = None
) -> Iterator[Served]:
    """Run a server until the block ends; waits until `probe` answers, and shows its output if it never does."""
    folder.mkdir(parents=True, exist_ok=True)
    records = folder / "records"
    output = folder / "output.log"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command,
            env={"INFERENCE_LOG_DIR": str(records)} | env,
            cwd=cwd or folder,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, f"{url}{probe}", output)
        yield Served(url, process, output, records)
    finally:
        end(process)


def serve_model(uri: str, folder: Path, env: dict[str, str], *options: str) -> Any:
    """`mlflow models serve` of a model URI, from `folder` as working directory (a context manager giving Served)."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "-p", str(port), *options]
    if "--env-manager" not in options:
        command += ["--env-manager", "local"]
    return started(command, f"http://127.0.0.1:{port}", "/ping", folder, env)


def serve_tracking(folder: Path) -> Any:
    """An MLflow tracking server with sqlite and local artifacts in `folder` (a context manager giving Served)."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"]
    env = environment(
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        MLFLOW_WEBHOOK_ALLOWED_SCHEMES="http,https",
        MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS="true",
        MLFLOW_WEBHOOK_CACHE_TTL="0",
    )
    return started(command, f"http://127.0.0.1:{port}", "/health", folder, env)


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a process and all of its group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _wait(process: subprocess.Popen[bytes], url: str, output: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server has ended:\n{output.read_text()}"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{url} never answered:\n{output.read_text()}")


def _refuse_constant(text: str) -> None:
    raise AssertionError(f"the answer is not JSON: it holds {text}")
