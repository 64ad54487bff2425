"""Promotion by several people at once, on PostgreSQL, on sqlite, and through a tracking server with basic auth."""

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
import requests
from mlflow import MlflowClient

from eye_disease.registry.history import lock as promotion_lock
from eye_disease.registry.history.store import History
from eye_disease.registry.history.view import review
from eye_disease.registry.promotion import promote, rollback
from eye_disease.registry.versions import StageError, read_registry
from tests.support.postgres import serve_postgres
from tests.support.servers import PROJECT, Served, environment, free_port, run, started
from tests.support.versions import make_versions, passed

NAME = "eye-model"
GUARDED = "guarded-model"
PASSWORD = "not-a-secret-of-anybody"

PEOPLE = """
import multiprocessing, os, signal, sys, time
from pathlib import Path
from mlflow import MlflowClient
from eye_disease.registry.history import lock as promotion_lock
from eye_disease.registry.versions import StageError
from eye_disease.registry.promotion import promote
from tests.support.versions import passed

# So long that a busy machine decides nothing.
promotion_lock.HOLD_SECONDS, promotion_lock.STALE_SECONDS, promotion_lock.WAIT_SECONDS = 600, 700, 800
name, folder, kill_at, *people = sys.argv[1:]

def promotes(user, version):
    os.environ["MLFLOW_TRACKING_USERNAME"] = user

    judged = passed(name, version)
    Path(folder, f"{version}.judged").touch()
    while len(list(Path(folder).glob("*.judged"))) < len(people):  # all have been judged before any of them moves
        time.sleep(0.02)
    try:
        promote(name, version, "Production", judged=judged)
    except StageError as error:
        Path(folder, version).write_text(str(error))

if kill_at:
    setattr(MlflowClient, kill_at, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
# Forked, so that all are at work at once whatever starting Python takes.
at_work = [multiprocessing.get_context("fork").Process(target=promotes, args=one.split(":")) for one in people]
for process in at_work:
    process.start()
for process in at_work:
    process.join()
sys.exit(any(process.exitcode for process in at_work))
"""


def _promote(uri: str, name: str, folder: Path, *people: str, kill_at: str = "") -> dict[str, str]:
    """Version -> why its promotion was refused, of `user:version`s that are promoted at once, each in a process of its own."""
    folder.mkdir(exist_ok=True)
    env = environment(MLFLOW_TRACKING_URI=uri, MLFLOW_TRACKING_PASSWORD=PASSWORD)
    done = run(sys.executable, "-c", PEOPLE, name, str(folder), kill_at, *people, env=env)
    refused = {path.name: path.read_text() for path in folder.glob("[0-9]")}
    assert done.returncode == bool(kill_at), (refused, done.stderr)
    return refused


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user
        with serve_postgres(Path(folder)) as uri:
            yield uri


@pytest.fixture(scope="module")
def server(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A tracking server with basic auth on PostgreSQL, and the users alice, bob and carol."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    # As deployed, but for the store of the accounts: a password is not hashed for every request.
    deployed = (PROJECT / "deploy" / "mlflow" / "basic_auth.ini").read_text()
    accounts = "postgresql+psycopg2:///mlflow"
    assert accounts in deployed
    (folder / "basic_auth.ini").write_text(deployed.replace(accounts, f"sqlite:///{folder}/accounts.db"))
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1", "--app-name", "basic-auth"]
    command += ["--backend-store-uri", postgres, "--artifacts-destination", str(folder / "artifacts")]
    env = environment(
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        MLFLOW_FLASK_SERVER_SECRET_KEY=PASSWORD,
        MLFLOW_AUTH_CONFIG_PATH=str(folder / "basic_auth.ini"),
        MLFLOW_AUTH_ADMIN_USERNAME="admin",
        MLFLOW_AUTH_ADMIN_PASSWORD=PASSWORD,
        PYTHONPATH=str(PROJECT),  # for deploy.roles, which the file names
    )
    with started(command, f"http://127.0.0.1:{port}", "/health", folder, env) as served:
        for user in ("alice", "bob", "carol"):
            _administer(served.url, "2.0/mlflow/users/create", username=user, password=PASSWORD)
        yield served


@contextmanager
def _as(user: str, url: str) -> Iterator[MlflowClient]:
    """Inside, this process is a user of the server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", user)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        mlflow.set_tracking_uri(url)
        try:
            yield MlflowClient()
        finally:
            mlflow.set_tracking_uri(None)


def _administer(url: str, path: str, **body: str) -> None:
    answer = requests.post(f"{url}/api/{path}", json=body, auth=("admin", PASSWORD), timeout=60)
    assert answer.ok, answer.text


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_of_three_at_once_one_wins_and_the_others_are_told(
    store: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db" if store == "sqlite" else request.getfixturevalue("postgres")
    mlflow.set_tracking_uri(uri)
    try:
        client = MlflowClient()
        make_versions(client, NAME, 3)
        people = {"1": "alice", "2": "bob", "3": "carol"}
        refused = _promote(uri, NAME, tmp_path / "at-work", *(f"{who}:{version}" for version, who in people.items()))
        (winner,) = people.keys() - refused.keys()
        for why in refused.values():
            assert f"Production of {NAME} changed from version none to {winner} in the meantime ({people[winner]}, " in why
        seen = read_registry(client, NAME)
        assert (seen.holder("Production"), seen.aliases, seen.disagreements()) == (winner, {"production": winner}, [])
        assert [(step.version, step.number, step.who) for step in History(client, NAME).records()] == [
            (winner, 1, people[winner])
        ]
        assert [model.name for model in client.search_registered_models()] == [NAME]
    finally:
        mlflow.set_tracking_uri(None)


def test_people_of_a_server_with_basic_auth(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Alice's command is killed between the two calls; carol may only read; bob is let in and mends it."""
    monkeypatch.setattr(promotion_lock, "STALE_SECONDS", 2)  # alice's lock is soon past it
    monkeypatch.setattr(promotion_lock, "HOLD_SECONDS", 600)  # a busy machine decides nothing: only one is at work at a time
    with _as("alice", server.url) as client:
        make_versions(client, GUARDED, 3)
        promote(GUARDED, "1", "Production", judged=passed(GUARDED, "1"))
        _promote(server.url, GUARDED, tmp_path, "alice:2", kill_at="set_registered_model_alias")
        assert _held(client) == ("2", "1")

    with _as("carol", server.url):
        history = review(GUARDED)
    assert history.notes[0].startswith("The history could not be brought up to date: ")
    assert "Not recorded yet: version 2, None -> Production" in "".join(history.notes)
    assert [step.state for step in history.records] == ["done", "begun"]

    with _as("bob", server.url), pytest.raises(StageError, match=r"Permission denied.*Ask an administrator for EDIT"):
        promote(GUARDED, "3", "Staging")
    with _as("alice", server.url) as client:
        records = client.get_experiment_by_name(f"{GUARDED}/transitions").experiment_id
    for kind, which in (("registered_model", GUARDED), ("experiment", records)):
        grant = {"username": "bob", "resource_type": kind, "resource_id": which, "permission": "EDIT"}
        _administer(server.url, "3.0/mlflow/users/permissions/grant", **grant)
    with _as("bob", server.url) as client:
        promote(GUARDED, "3", "Staging")
        assert _held(client) == ("2", "2")
        records = History(client, GUARDED).records()
        assert [(step.version, step.state, step.who, step.recovered) for step in records] == [
            ("1", "done", "alice", ""),
            ("2", "done", "alice", "bob"),
            ("3", "done", "bob", ""),
        ]
        assert rollback(GUARDED).version == "1"
        assert _held(client) == ("1", "1")

    assert re.search(rf"{GUARDED}\.lock-1 could not be removed \(.*Permission denied", caplog.text)
    with _as("alice", server.url) as client:
        assert review(GUARDED).notes == []
        assert [step.name for step in client.search_registered_models(f"name LIKE '{GUARDED}%'")] == [GUARDED]


def _held(client: MlflowClient) -> tuple[str | None, str | None]:
    """What a reader of the stage Production and one of its alias get."""
    seen = read_registry(client, GUARDED)
    return seen.holder("Production"), seen.aliases.get("production")
