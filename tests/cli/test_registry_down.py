"""Every command of `register.py` while MLflow's server is down: a bound, a sentence, an exit status."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest

from eye_disease.cli import register

COMMANDS = {
    "list": [],
    "rollback": [],
    "history": [],
    "promote": ["--version", "1", "--stage", "Staging"],
    "validate": ["--version", "1"],
    "register": [],
}
Ended = Callable[[str, str], tuple[object, str]]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Ended]:
    """Runs a command against a server in this process; exit status and what it said."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_RUN_ID"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)  # and is so again afterwards, whatever the command sets

    def run(command: str, server: str) -> tuple[object, str]:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
        mlflow.set_tracking_uri(server)
        monkeypatch.setattr("sys.argv", ["register.py", command, *COMMANDS[command]])
        with pytest.raises(SystemExit) as end:
            register.main()
        return end.value.code, capsys.readouterr().err

    yield run
    mlflow.set_tracking_uri(None)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_is_not_there(ended: Ended, command: str) -> None:
    start = time.monotonic()
    status, text = ended(command, "http://127.0.0.1:9")
    assert status == 69
    assert time.monotonic() - start < 60
    assert text.startswith(f"register.py {command}: ")
    assert text.endswith("MLflow at http://127.0.0.1:9 does not answer (Connection refused).\n")
    assert text.count("\n") == 1


@pytest.mark.parametrize("command", ["list", "rollback"])
def test_a_server_that_hangs(ended: Ended, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_TIMEOUT_SECONDS", "1")
    with socket.create_server(("127.0.0.1", 0)) as hanging:  # accepts connections and says nothing
        address = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        start = time.monotonic()
        status, text = ended(command, address)
    assert status == 69
    assert time.monotonic() - start < 30
    assert text.endswith(f"MLflow at {address} does not answer (Read timed out).\n")


def test_a_wrong_bound_is_named(ended: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_TIMEOUT_SECONDS", "soon")
    status, _ = ended("list", "http://127.0.0.1:9")
    assert "REGISTRY_TIMEOUT_SECONDS='soon'" in str(status)
