"""What the stack's accounts may do, asked of a real MLflow server with basic auth, route by route."""

import sys
from collections.abc import Iterator

import pytest
import requests
from mlflow import MlflowClient

from deploy.accounts import MONITORING, SERVING, make_accounts
from deploy.roles import may
from model_code.schema import MODEL_NAME
from tests.support.servers import PROJECT, environment, free_port, started

ADMIN = ("admin", "administrator-1")
PASSWORDS = {SERVING: "serving-password-1", MONITORING: "monitoring-password-1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("basic_auth")
    text = (PROJECT / "deploy" / "mlflow" / "basic_auth.ini").read_text()
    assert "deploy.roles:authenticate" in text
    (folder / "auth.ini").write_text(text.replace("postgresql+psycopg2:///mlflow", f"sqlite:///{folder}/auth.db"))
    port = free_port()
    env = environment(
        MLFLOW_AUTH_CONFIG_PATH=str(folder / "auth.ini"),
        MLFLOW_AUTH_ADMIN_USERNAME=ADMIN[0],
        MLFLOW_AUTH_ADMIN_PASSWORD=ADMIN[1],
        MLFLOW_FLASK_SERVER_SECRET_KEY="a secret for the tests",
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        PYTHONPATH=str(PROJECT),
    )
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1", "--app-name", "basic-auth"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")]
    with started(command, f"http://127.0.0.1:{port}", "/health", folder, env) as served:
        yield served.url


@pytest.fixture(scope="module")
def accounts(server: str) -> str:
    """The server with the stack's accounts, and no model yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN[0])
        patch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN[1])
        make_accounts(server, PASSWORDS[SERVING], PASSWORDS[MONITORING])
    return server


def _status(server: str, user: str, method: str, route: str, **body: object) -> int:
    auth = ADMIN if user == "admin" else (user, PASSWORDS[user])
    arguments = {"params": body} if method == "GET" else {"json": body}
    return requests.request(method, f"{server}/api/2.0/mlflow/{route}", auth=auth, timeout=60, **arguments).status_code


@pytest.mark.parametrize("user", [SERVING, MONITORING])
def test_neither_creates_what_others_will_use(accounts: str, user: str) -> None:
    """Before the first registration, under the very name that is served later."""
    assert _status(accounts, user, "POST", "experiments/create", name=f"of-{user}") == 403
    assert _status(accounts, user, "POST", "registered-models/create", name=MODEL_NAME) == 403
    assert _status(accounts, user, "POST", "model-versions/create", name=MODEL_NAME, source="s3://elsewhere") == 403


def test_both_read(accounts: str) -> None:
    for user in (SERVING, MONITORING):
        assert _status(accounts, user, "GET", "registered-models/search") == 200
        assert _status(accounts, user, "POST", "experiments/search", max_results=5) == 200


def test_the_drift_job_writes_runs_and_tags(accounts: str) -> None:
    experiment = requests.get(
        f"{accounts}/api/2.0/mlflow/experiments/get-by-name",
        params={"experiment_name": "eye-disease-classifier"},
        auth=ADMIN,
        timeout=60,
    ).json()["experiment"]["experiment_id"]
    assert _status(accounts, "admin", "POST", "registered-models/create", name=MODEL_NAME) == 200
    assert _status(accounts, MONITORING, "POST", "runs/create", experiment_id=experiment) == 200
    assert _status(accounts, SERVING, "POST", "runs/create", experiment_id=experiment) == 403
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN[0])
        patch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN[1])
        client = MlflowClient(accounts)
        run = client.create_run(experiment)
        client.create_model_version(MODEL_NAME, f"{run.info.artifact_uri}/model", run.info.run_id)
    tag = {"name": MODEL_NAME, "version": "1", "key": "drift_status", "value": "ok"}
    assert _status(accounts, MONITORING, "POST", "model-versions/set-tag", **tag) == 200
    assert _status(accounts, SERVING, "POST", "model-versions/set-tag", **tag) == 403


def test_every_route_that_writes_is_closed_to_the_model_servers() -> None:
    """Whatever MLflow's next release adds is closed until it is opened here."""
    from mlflow.server.handlers import get_endpoints

    routes = {(method, path) for path, _, methods in get_endpoints() for method in methods}
    assert len(routes) > 100
    written = {path for method, path in routes if method not in ("GET", "HEAD") and may(SERVING, method, path)}
    assert all(path.endswith(("/search", "/get-latest-versions")) for path in written), written
    opened = {path for method, path in routes if method not in ("GET", "HEAD") and may(MONITORING, method, path)} - written
    assert not {path for path in opened if path.endswith("/create") and not path.endswith("/runs/create")}, opened
    assert any(path.endswith("/runs/log-batch") for path in opened)


@pytest.mark.parametrize(
    "path", ["/graphql", "/api/2.0/mlflow/runs/search/../create", "/api/3.0/mlflow/webhooks", "/signup", ""]
)
def test_what_is_no_known_route_is_no_read(path: str) -> None:
    assert not may(SERVING, "POST", path)


def test_people_are_left_to_mlflows_permissions() -> None:
    assert may("admin", "POST", "/api/2.0/mlflow/registered-models/create")
    assert may("dr-silva", "DELETE", "/api/2.0/mlflow/experiments/delete")
