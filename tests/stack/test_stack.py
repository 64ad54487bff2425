"""The production stack of deploy/, run natively: register, promote, serve behind nginx, drift, roll back, back up, restore.

The tests of this module are steps of one story and run in their order, on one start of everything.
"""

import base64
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from tests.support.photos import encode, fundus
from tests.support.servers import NAME, START_LIMIT_S, environment, python, read_records
from tests.support.stack import NativeStack, missing_programs

KEY = "0f" * 32
MANY = 60
"""Photos of a window: enough for a verdict."""

pytestmark = pytest.mark.skipif(bool(missing_programs()), reason=f"needs {', '.join(missing_programs())} on this machine")


def _passwords(folder: Path) -> dict[str, str]:
    """The environment that deploy/env.example asks for, with files for the proxy."""
    names = ("POSTGRES_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY")
    secrets = {name: os.urandom(16).hex() for name in (*names, "MLFLOW_SERVING_PASSWORD", "MLFLOW_MONITORING_PASSWORD")}
    files = {name: folder / name.lower() for name in ("TLS_CERTIFICATE_FILE", "TLS_KEY_FILE", "API_KEYS_FILE", "BACKUP_FOLDER")}
    files["API_KEYS_FILE"].write_text(f'"{KEY}" clinic-a;\n')
    files["BACKUP_FOLDER"].mkdir()
    return secrets | {name: str(path) for name, path in files.items()}


def _certificate(env: dict[str, str], address: str) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=stack", "-addext", f"subjectAltName=IP:{address}"]
    command += ["-keyout", env["TLS_KEY_FILE"], "-out", env["TLS_CERTIFICATE_FILE"]]
    subprocess.run(command, check=True, capture_output=True)
    Path(env["TLS_KEY_FILE"]).chmod(0o644)  # nginx is another user


@dataclass
class Clinic:
    """Somebody who uses the stack from outside, by TLS."""

    stack: NativeStack
    env: dict[str, str]

    @property
    def host(self) -> str:
        return self.stack.addresses["proxy"]

    def ask(self, path: str, body: bytes | None = None, port: int = 8443, **headers: str) -> tuple[int, str]:
        """(status, text) of a request; headers are named with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"https://{self.host}:{port}{path}", body, named)
        trusted = ssl.create_default_context(cafile=self.env["TLS_CERTIFICATE_FILE"])
        try:
            with urllib.request.urlopen(request, timeout=60, context=trusted) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def classify(self, *photos: bytes) -> list[dict[str, Any]]:
        rows = [{"image": base64.b64encode(one).decode(), "site": "clinic-a"} for one in photos]
        body = json.dumps({"dataframe_records": rows}).encode()
        status, text = self.ask("/invocations", body, Content_Type="application/json", X_Api_Key=KEY)
        assert status == 200, text
        return json.loads(text)["predictions"]

    def tracking(self, user: str, password: str) -> dict[str, str]:
        """Environment of a client of MLflow, through the proxy."""
        return environment(
            MLFLOW_TRACKING_URI=f"https://{self.host}:5443",
            MLFLOW_TRACKING_SERVER_CERT_PATH=self.env["TLS_CERTIFICATE_FILE"],
            MLFLOW_TRACKING_USERNAME=user,
            MLFLOW_TRACKING_PASSWORD=self.env[password],
            GATE_MAX_LATENCY_MS="60000",  # this machine has a whole stack to run beside the gate
        )

    def registry(self, *command: str) -> str:
        done = python("register.py", *command, env=self.tracking("admin", "MLFLOW_ADMIN_PASSWORD"))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def clinic() -> Iterator[Clinic]:
    folder = Path(tempfile.mkdtemp(prefix="stack-"))  # not pytest's folder, which PostgreSQL's user cannot enter
    folder.chmod(0o755)
    env = _passwords(folder)
    stack = NativeStack(folder, 0x4000 + os.getpid() % 0x2000, env)
    _certificate(env, stack.addresses["proxy"])
    try:
        stack.up("proxy")
        yield Clinic(stack, env)
    finally:
        stack.down()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    return [encode(fundus(200, seed), "JPEG") for seed in range(1, MANY + 1)]


def test_it_answers_from_the_first_minute_with_the_bundled_model(clinic: Clinic, retina: bytes) -> None:
    (answer,) = clinic.classify(retina)
    assert answer["model_version"] == "bundled"
    assert clinic.ask("/ping")[0] == 200


def test_who_may_ask_what(clinic: Clinic, retina: bytes) -> None:
    body = json.dumps({"dataframe_records": [{"image": base64.b64encode(retina).decode()}]}).encode()
    kind = {"Content_Type": "application/json"}
    assert clinic.ask("/invocations", body, **kind)[0] == 401
    assert clinic.ask("/invocations", body, X_Api_Key="wrong", **kind)[0] == 401
    assert clinic.ask("/version", X_Api_Key=KEY)[0] == 404, "only /ping and /invocations are served"
    status, text = clinic.ask("/invocations", bytes(65 << 20), X_Api_Key=KEY, **kind)
    assert status == 413
    assert "64 MiB" in json.loads(text)["error"]
    assert clinic.ask("/api/2.0/mlflow/experiments/search", port=5443)[0] == 401
    assert clinic.ask("/api/2.0/mlflow/experiments/search", port=5443, Authorization="Basic YWRtaW46YWRtaW4=")[0] == 401
    assert KEY not in clinic.stack.output("proxy"), "keys are not logged"
    assert 'client="clinic-a"' in clinic.stack.output("proxy")


def test_too_many_requests(clinic: Clinic) -> None:
    refused = threading.Event()

    def ask_until_refused(_: int) -> list[int]:
        """On one connection, so that it is quick."""
        trusted = ssl.create_default_context(cafile=clinic.env["TLS_CERTIFICATE_FILE"])
        connection, statuses = http.client.HTTPSConnection(clinic.host, 8443, timeout=60, context=trusted), []
        while not refused.is_set() and len(statuses) < 100:
            connection.request("POST", "/invocations", b"{}", {"Content-Type": "application/json", "X-Api-Key": KEY})
            response = connection.getresponse()
            statuses.append(response.status)
            if response.status == 429:
                assert json.loads(response.read()) == {"error": "too many requests"}
                refused.set()
            response.read()
        connection.close()
        return statuses

    with ThreadPoolExecutor(16) as pool:
        statuses = Counter(status for found in pool.map(ask_until_refused, range(16)) for status in found)
    assert set(statuses) == {400, 429}
    assert statuses[400] >= 40, "a burst is let through"
    time.sleep(2.5)  # for the tests that follow


def test_no_tls_no_answer(clinic: Clinic) -> None:
    with socket.create_connection((clinic.host, 8443), timeout=10) as plain:
        plain.sendall(b"GET /ping HTTP/1.0\r\n\r\n")
        status, _, text = plain.recv(4096).partition(b"\r\n\r\n")
        assert b" 400 " in status.splitlines()[0]
        assert json.loads(text)["error"]


def test_register_and_promote_then_restart_one_by_one(clinic: Clinic, retina: bytes) -> None:
    assert f"Registered {NAME} version 1" in clinic.registry("register", "--stage", "Production")
    answered: list[str] = []
    done = threading.Event()

    def keep_asking() -> None:
        while not done.is_set():
            answered.extend(one["model_version"] for one in clinic.classify(retina))
            done.wait(0.2)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(keep_asking)
        try:
            for name in ("model-1", "model-2"):
                clinic.stack.down(name)
                clinic.stack.up(name)
        finally:
            done.set()
        asking.result()
    assert len(answered) > 10, "every request was answered while the servers went down and up"
    assert clinic.classify(retina)[0]["model_version"] == "1"
    assert "/presigned/" not in clinic.stack.output("mlflow"), "clients cannot reach the artifact store that this sends them to"


def test_accounts_have_the_rights_they_need_and_no_more(clinic: Clinic) -> None:
    def tag(user: str, password: str) -> int:
        token = base64.b64encode(f"{user}:{clinic.env[password]}".encode()).decode()
        body = json.dumps({"name": NAME, "version": "1", "key": "tried_by", "value": user}).encode()
        path, kind = "/api/2.0/mlflow/model-versions/set-tag", "application/json"
        return clinic.ask(path, body, port=5443, Authorization=f"Basic {token}", Content_Type=kind)[0]

    assert tag("serving", "MLFLOW_SERVING_PASSWORD") == 403
    assert tag("monitoring", "MLFLOW_MONITORING_PASSWORD") == 200
    assert "are ready" in clinic.stack.run("accounts", "python", "-m", "deploy.accounts").stdout, "again, as after a restart"


def test_the_drift_job_judges_the_traffic(clinic: Clinic, photos: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    answers = clinic.classify(*photos)
    assert [one["error"] for one in answers] == [None] * MANY
    clinic.stack.up("drift")
    for name, value in clinic.tracking("serving", "MLFLOW_SERVING_PASSWORD").items():
        monkeypatch.setenv(name, value)
    deadline = time.monotonic() + START_LIMIT_S
    while "drift_status" not in (tags := MlflowClient().get_model_version(NAME, "1").tags):
        assert time.monotonic() < deadline, clinic.stack.output("drift")
        time.sleep(1)
    assert tags["drift_status"] in ("ok", "warning", "drift"), clinic.stack.output("drift")
    assert len(list(clinic.stack.volume("records").rglob("date=*/*.parquet"))) > 0


def test_a_promotion_is_rolled_back(clinic: Clinic, retina: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in clinic.tracking("admin", "MLFLOW_ADMIN_PASSWORD").items():
        monkeypatch.setenv(name, value)
    first = MlflowClient().get_model_version(NAME, "1")
    mlflow.register_model(first.source, NAME)  # the same files: no second registration to wait for
    clinic.registry("promote", "--version", "2", "--stage", "Production")
    assert "version 1 is in Production again" in clinic.registry("rollback", "--reason", "a test")
    clinic.stack.down("model-1")
    clinic.stack.up("model-1")
    assert clinic.classify(retina)[0]["model_version"] == "1"
    assert "rollback" in clinic.registry("history")


def _complete(clinic: Clinic) -> list[Path]:
    """The complete backups, oldest first."""
    return sorted(Path(clinic.env["BACKUP_FOLDER"]).glob("20*Z"))


def test_a_backup_is_made_every_night_and_takes_no_room_for_what_has_not_changed(clinic: Clinic) -> None:
    night = clinic.stack.folder / "night"
    night.mkdir()
    (night / "sleep").write_text(
        '#!/bin/sh\n[ -e "$0.over" ] && kill -TERM $PPID\ntouch "$0.over"\n'
    )  # one night goes by at once
    (night / "sleep").chmod(0o755)
    path = f"{night}{os.pathsep}{environment()['PATH']}"
    done = clinic.stack.run("backup", "deploy/backup.sh", "--every-night", "02:15", PATH=path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Backup ") == 1
    time.sleep(1.1)  # backups are named by the second
    done = clinic.stack.run("backup", "deploy/backup.sh")
    assert done.returncode == 0, done.stderr
    first, second = _complete(clinic)
    kept = [path for path in (first / "artifacts").rglob("*") if path.is_file()]
    assert any(path.name == "classifier.tflite" for path in kept)
    assert all(path.stat().st_nlink == 2 for path in kept)
    assert {path.name for path in second.iterdir()} == {"artifacts", "records", "monitoring", "database.dump", "SHA256SUMS"}


def test_a_backup_that_fails_is_none(clinic: Clinic) -> None:
    before = _complete(clinic)
    failed = clinic.stack.run("backup", "deploy/backup.sh", PGPASSWORD="wrong")
    assert failed.returncode != 0
    assert "password authentication failed" in failed.stderr
    assert _complete(clinic) == before
    assert clinic.stack.run("backup", "deploy/backup.sh", "--every-night", "2:15").returncode == 2
    assert clinic.stack.run("backup", "deploy/backup.sh", BACKUP_KEEP="0").returncode == 2
    assert _complete(clinic) == before


def test_restored_into_an_empty_stack_every_version_can_be_served(clinic: Clinic) -> None:
    history = clinic.registry("history")
    records = len(read_records(clinic.stack.volume("records")))
    *_, backup = _complete(clinic)
    clinic.stack.down()
    old = clinic.stack.volume("database").parent
    shutil.rmtree(old)

    clinic.stack.up("database", "objects")
    (dump := backup / "database.dump").write_bytes((whole := dump.read_bytes())[:-1])
    refused = clinic.stack.run("backup", "deploy/restore.sh", str(backup))
    assert "is damaged" in refused.stderr
    dump.write_bytes(whole)
    done = clinic.stack.run("backup", "deploy/restore.sh", str(backup))
    assert done.returncode == 0, done.stdout + done.stderr
    again = clinic.stack.run("backup", "deploy/restore.sh", str(backup))
    assert again.returncode != 0
    assert "Expected an empty one" in again.stderr, "nothing is overwritten"

    clinic.stack.up("mlflow")
    env = {"MLFLOW_TRACKING_URI": f"http://{clinic.stack.addresses['mlflow']}:5000"}
    admin = clinic.tracking("admin", "MLFLOW_ADMIN_PASSWORD") | env
    checked = python("-m", "deploy.check_versions", env=admin)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("its canary is answered as expected") == 2
    assert python("register.py", "history", env=admin).stdout == history
    assert len(read_records(clinic.stack.volume("records"))) == records
    assert any(clinic.stack.volume("monitoring").iterdir())
