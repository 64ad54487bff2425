"""A server is up if it gives its canary photo the answer that was registered with it, and down with a reason otherwise."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import mlflow
import pytest

from eye_disease.common.errors import TrackingUnavailableError
from eye_disease.monitoring.package_cache import Packages
from eye_disease.monitoring.probe import Canary, NotLetInError, probe, probe_served
from eye_disease.profiles.reference import REFERENCE_FILE, Reference
from eye_disease.records.storage import Storage
from eye_disease.verdict.service import Health
from tests.support.servers import NAME, PROJECT, Served, free_port, read_records

PACKAGE = PROJECT / "models"


@pytest.fixture(scope="module")
def canary() -> Canary:
    return Canary.of_package(PACKAGE)


@contextmanager
def _server(ping: int, answer: Callable[[], tuple[int, bytes]], logins: list[str | None] | None = None) -> Iterator[str]:
    """A server that answers /ping with a status, and /invocations as told; logins: gets those that it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def _send(self, status: int, body: bytes) -> None:
            if logins is not None:
                logins.append(self.headers["Authorization"])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._send(ping, b"")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._send(*answer())

        def log_message(self, *arguments: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def _predictions(canary: Canary, **changes: Any) -> bytes:
    return json.dumps({"predictions": [canary.expected | {"model_version": "7", "error_code": None} | changes]}).encode()


def test_the_served_model_is_up_and_its_canary_is_marked(served: Served, canary: Canary) -> None:
    def canaries() -> list[dict[str, object]]:
        return [record for record in read_records(served.records) if record["image_id"] == "canary"]

    before = len(canaries())
    health = probe(served.url, canary)
    assert (health.up, health.reason, health.model_version) == (True, None, "1")
    assert health.response_time_ms > 0
    assert len(canaries()) == before + 1
    assert all(record["canary"] is True for record in canaries())


def test_the_package_of_a_registered_version_is_fetched_once(
    registry: dict[str, str], canary: Canary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    packages = Packages(tmp_path, timeout_seconds=20)
    mlflow.set_tracking_uri(registry["MLFLOW_TRACKING_URI"])
    fetched = packages.find(NAME, "1")
    assert fetched is not None
    assert Canary.of_package(fetched) == canary
    assert Reference.load(fetched / REFERENCE_FILE).name == "validation"
    assert packages.find(NAME, "999") is None
    assert packages.find("no-such-model", "1") is None
    mlflow.set_tracking_uri(f"http://127.0.0.1:{free_port()}")
    assert packages.find(NAME, "1") == fetched
    with pytest.raises(TrackingUnavailableError):
        packages.find(NAME, "2")
    mlflow.set_tracking_uri(None)


def test_packages_that_need_no_registry(tmp_path: Path) -> None:
    packages = Packages(tmp_path, timeout_seconds=1)
    assert packages.find(NAME, "bundled") == PACKAGE
    assert packages.find(NAME, "unregistered") is None


def test_the_expected_answer_is_up(canary: Canary) -> None:
    with _server(200, lambda: (200, _predictions(canary))) as url:
        health = probe(url, canary)
    assert health == Health(True, None, health.response_time_ms, "7")


@pytest.mark.parametrize(
    ("ping", "answer", "reason", "wrong"),
    [
        (503, (200, {}), "/ping: HTTP status 503.", False),
        (200, (500, {}), "The canary photo was not answered: HTTP status 500.", False),
        (200, (200, {"predicted_class": "cataract"}), "predicted_class is 'cataract', expected", True),
        (200, (200, {"confidence": 0.5}), "The answer to the canary photo is wrong: confidence is 0.5, expected 0.9", True),
        (200, (200, {"confidence": None}), "confidence is None", True),
        (200, (200, {"error_code": "internal_error"}), "answered with the error internal_error", True),
        (200, (200, {"error_code": "image_too_many_bytes"}), "answered with the error image_too_many_bytes", False),
    ],
)
def test_a_server_that_answers_ping_but_not_rightly_is_down(
    canary: Canary, ping: int, answer: tuple[int, dict], reason: str, wrong: bool
) -> None:
    with _server(ping, lambda: (answer[0], _predictions(canary, **answer[1]))) as url:
        health = probe(url, canary)
    assert (health.up, health.wrong) == (False, wrong)
    assert reason in health.reason


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{}", b"[]", b"null", b'{"predictions": []}', b'{"predictions": [1]}', b"\xff"]
)
def test_something_else_behind_the_url_is_down(canary: Canary, body: bytes) -> None:
    with _server(200, lambda: (200, body)) as url:
        health = probe(url, canary)
    assert not health.up
    assert "not an answer of this model" in health.reason
    assert health.response_time_ms is not None


def test_a_login_in_the_address_is_sent_and_shown_to_nobody(
    canary: Canary, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str | None] = []
    with _server(200, lambda: (200, _predictions(canary)), seen) as url:
        address = url.removeprefix("http://")
        assert probe(f"http://eve:hunter%402@{address}", canary).up
        assert seen == ["Basic ZXZlOmh1bnRlckAy"] * 2
        _wrote(tmp_path, "bundled", 12)
        down = probe_served(f"http://eve:hunter%402@127.0.0.1:{free_port()}", Storage(str(tmp_path)), Packages(tmp_path, 1))
    assert down is not None
    assert "hunter" not in f"{down}{caplog.text}"
    assert "is unhealthy" in caplog.text


@pytest.mark.parametrize("status", [401, 403, 407])
def test_a_server_that_does_not_let_the_probe_in_says_nothing_of_the_model(
    canary: Canary, tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    for ping, answer in ((status, 200), (200, status)):
        with _server(ping, lambda answer=answer: (answer, b"")) as url, pytest.raises(NotLetInError, match=f"status {status}"):
            probe(url, canary)
    _wrote(tmp_path, "bundled", 12)
    with _server(status, lambda: (200, b"")) as url:
        assert probe_served(url, Storage(str(tmp_path)), Packages(tmp_path, 1)) is None
    assert "another login than HEALTH_CHECK_URL holds" in caplog.text


def test_a_server_of_this_machine_is_not_asked_through_a_proxy(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with _server(200, lambda: (200, _predictions(canary, error=None))) as url:
        assert probe(url, canary).up
        photo = PROJECT / "samples" / "canary.jpg"
        command = [sys.executable, "samples/request.py", str(photo), "--url", url]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        waited = '. scripts/processes.sh; wait_until_up it $$ "$0/ping" /dev/null'
        up = subprocess.run(["bash", "-c", waited, url], cwd=PROJECT, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert up.stdout.endswith(" up\n"), up.stderr


def test_what_a_server_answers_forges_no_line(canary: Canary) -> None:
    evil = "\x1b[2J\n2026-01-01 all is well [x](http://evil)"
    for changes in ({"predicted_class": evil}, {"error_code": evil}):
        with _server(200, lambda changes=changes: (200, _predictions(canary, **changes))) as url:
            health = probe(url, canary)
        assert health.reason is not None
        assert not set("\x1b\n[") & set(health.reason)


def test_a_server_that_hangs_is_down(canary: Canary) -> None:
    def late() -> tuple[int, bytes]:
        time.sleep(0.6)
        return 200, b""

    with _server(200, late) as url:
        health = probe(url, canary, timeout_seconds=0.2)
    assert (health.up, health.reason) == (False, "The canary photo was not answered: no answer in time.")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        health = probe(f"http://127.0.0.1:{silent.getsockname()[1]}", canary, timeout_seconds=0.2)
    assert health == Health(False, "/ping: no answer in time.", None, None)


def test_no_server_is_down(canary: Canary) -> None:
    health = probe(f"http://127.0.0.1:{free_port()}", canary)
    assert not health.up
    assert "/ping: no connection" in health.reason
    assert health.response_time_ms is None


def test_a_connection_that_breaks_is_down(canary: Canary) -> None:
    def nonsense(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.recv(1000)
        connection.sendall(b"SSH-2.0-nothing\r\n")
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=nonsense, args=(listener,))
        thread.start()
        health = probe(f"http://127.0.0.1:{listener.getsockname()[1]}", canary, timeout_seconds=5)
        thread.join()
    assert not health.up
    assert "/ping:" in health.reason


class Registered(Packages):
    """A registry with the versions 1 and 2, whose canaries have different answers."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, timeout_seconds=1)
        for version, decision in (("1", "report"), ("2", "retake")):
            package = folder / NAME / version
            package.mkdir(parents=True)
            (package / "canary.jpg").write_bytes(b"photo")
            (package / "canary.json").write_text(json.dumps({"decision": decision}))


def _wrote(log: Path, version: str, hour: int) -> None:
    (log / NAME / version).mkdir(parents=True)
    (log / NAME / version / f"20260301T{hour:02d}-p.jsonl").touch()


@pytest.mark.parametrize(("decision", "up"), [("retake", True), ("report", False)])
def test_each_version_is_asked_for_its_own_answer(tmp_path: Path, decision: str, up: bool) -> None:
    """Version 1 wrote last; 2 is served by now."""
    _wrote(tmp_path, "1", 12)
    answer = {"predictions": [{"decision": decision, "model_version": "2", "error_code": None}]}
    with _server(200, lambda: (200, json.dumps(answer).encode())) as url:
        served_health = probe_served(url, Storage(str(tmp_path)), Registered(tmp_path / "packages"))
    assert served_health is not None
    assert (served_health[0], served_health[1].up) == ((NAME, "2"), up)


def test_a_server_that_names_no_version_is_the_one_that_wrote_last(tmp_path: Path) -> None:
    _wrote(tmp_path, "2", 11)
    _wrote(tmp_path, "1", 12)
    served_health = probe_served(f"http://127.0.0.1:{free_port()}", Storage(str(tmp_path)), Registered(tmp_path / "packages"))
    assert served_health is not None
    assert (served_health[0], served_health[1].up) == ((NAME, "1"), False)


def test_a_version_of_no_registry_cannot_be_probed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _wrote(tmp_path, "unregistered", 12)
    assert probe_served("http://127.0.0.1:9", Storage(str(tmp_path)), Packages(tmp_path, 1)) is None
    assert "No health probe" in caplog.text
