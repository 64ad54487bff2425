"""A secret in every setting that may hold one, errors in every place, and a search through all that was written anywhere."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.logs import NOON, append, minutes, record
from tests.support.servers import NAME, Served, environment, free_port, python

SECRET = "hunter2-planted-{}"
NAMES = ("tracking", "token", "alert", "probe", "s3", "command", "registry", "log")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Answers of the bundled model that are beyond a rule, so that there is something to tell of."""
    folder = tmp_path / "log" / NAME / "bundled"
    append(folder, *(record(n, NOON + minutes(n), confidence=0.2, model_version="bundled") for n in range(60)))
    return tmp_path / "log"


@pytest.fixture
def secrets(tmp_path: Path, log: Path) -> dict[str, str]:
    """An environment full of them; nothing answers."""
    planted = {name: SECRET.format(name) for name in NAMES}
    dead = f"127.0.0.1:{free_port()}"
    return environment(
        MLFLOW_TRACKING_URI=f"http://eve:{planted['tracking']}@{dead}",
        MLFLOW_TRACKING_TOKEN=planted["token"],
        MLFLOW_REGISTRY_URI=f"http://eve:{planted['registry']}@{dead}",
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
        MONITORING_MLFLOW_TIMEOUT_SECONDS="2",
        ALERT_URLS=f"json://eve:{planted['alert']}@{dead}/{planted['alert']}?+token={planted['alert']}",
        HEALTH_CHECK_URL=f"http://eve:{planted['probe']}@{dead}/invocations",
        AWS_SECRET_ACCESS_KEY=planted["s3"],
        DRIFT_ON_RAISE=f"printenv RAISED_VERSION --token {planted['command']}",
        DRIFT_RAISE_AFTER="1",
        INFERENCE_LOG_DIR=str(log),
        MONITORING_DIR=str(tmp_path / "state"),
    )


class Echo(BaseHTTPRequestHandler):
    """A proxy that is misconfigured: tells in its error page all that it was sent."""

    def do_GET(self) -> None:
        # The login first: a long message is cut.
        sent = dict(sorted(self.headers.items(), key=lambda header: header[0] != "Authorization"))
        body = json.dumps({"error_code": "INTERNAL_ERROR", "message": f"{sent} {self.path}"}).encode()
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


@pytest.fixture
def echo() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def _set(env: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if value}


def _requires_clean(said: str, *folders: Path) -> None:
    assert "hunter2" not in said
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        assert b"hunter2" not in path.read_bytes(), path


def test_a_run_that_tells_everybody_tells_no_secret(
    tracking: Served, secrets: dict[str, str], log: Path, tmp_path: Path
) -> None:
    address = tracking.url.removeprefix("http://")
    working = {"MLFLOW_TRACKING_URI": f"http://eve:{SECRET.format('tracking')}@{address}", "MLFLOW_REGISTRY_URI": ""}
    for env in (secrets, secrets | working):
        done = python("drift_job.py", "run", env=_set(env))
        assert done.returncode == 0, done.stderr
        _requires_clean(done.stdout + done.stderr, tmp_path, tracking.output.parent)
    alerts = [json.loads(path.read_text()) for path in (tmp_path / "state" / "alerts").rglob("*.json")]
    assert "command failed" in done.stdout
    assert "An alert was not delivered" in done.stderr
    assert "raised" in {alert["alert"]["event"] for alert in alerts}
    assert not list((tmp_path / "state" / "spool").glob("*/batch.json")), "MLflow has it all"


@pytest.mark.parametrize(
    ("command", "changes", "said"),
    [
        (["register.py", "list"], {}, "Connection refused"),
        (
            ["register.py", "history"],
            {"MLFLOW_TRACKING_URI": "http://{echo}", "MLFLOW_TRACKING_TOKEN": "{token}\n"},
            "register.py history",
        ),
        (["drift_job.py", "run"], {"ALERT_URLS": "slack://{alert}"}, "ALERT_URLS"),
        (["drift_job.py", "run"], {"HEALTH_CHECK_URL": "http://eve:{probe}@host:port"}, "HEALTH_CHECK_URL"),
        (["drift_job.py", "run"], {"INFERENCE_LOG_DIR": "nothing://key:{log}@bucket/logs"}, "INFERENCE_LOG_DIR"),
    ],
)
def test_no_error_shows_one(
    secrets: dict[str, str], echo: str, tmp_path: Path, command: list[str], changes: dict[str, str], said: str
) -> None:
    planted = {name: SECRET.format(name) for name in NAMES} | {"echo": echo}
    env = secrets | {name: value.format(**planted) for name, value in changes.items()}
    if "{echo}" in changes.get("MLFLOW_TRACKING_URI", ""):
        env["MLFLOW_REGISTRY_URI"] = ""
    done = python(*command, env=_set(env))
    assert done.returncode != 0
    assert said in done.stderr, done.stderr
    _requires_clean(done.stdout + done.stderr, tmp_path)


def test_a_server_that_repeats_the_login_is_not_repeated(secrets: dict[str, str], echo: str) -> None:
    login = {"MLFLOW_TRACKING_URI": f"http://eve:{SECRET.format('tracking')}@{echo}", "MLFLOW_REGISTRY_URI": ""}
    done = python("register.py", "list", env=_set(secrets | login))
    assert done.returncode != 0
    assert "Authorization" in done.stderr
    assert "Basic ***" in done.stderr
