"""The environment of every process: no login in an address, no proxy between this machine and itself."""

import os
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from requests.utils import should_bypass_proxies

from eye_disease.common.environment import is_loopback, prepare, without_proxy

LOGIN = {"MLFLOW_TRACKING_USERNAME": "eve", "MLFLOW_TRACKING_PASSWORD": "hunter2"}


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://eve:hunter2@mlflow:5000", {"MLFLOW_TRACKING_URI": "http://mlflow:5000"} | LOGIN),
        ("HTTPS://eve:hunter2@[::1]:5000/a/b", {"MLFLOW_TRACKING_URI": "HTTPS://[::1]:5000/a/b"} | LOGIN),
        (
            "http://e%40v:p%40s%2F@w:d@mlflow/",
            {
                "MLFLOW_TRACKING_URI": "http://mlflow/",
                "MLFLOW_TRACKING_USERNAME": "e@v",
                "MLFLOW_TRACKING_PASSWORD": "p@s/@w:d",
            },
        ),
        ("http://mlflow:5000/x@y", {"MLFLOW_TRACKING_URI": "http://mlflow:5000/x@y"}),
        ("sqlite:///mlflow.db", {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}),
        ("", {"MLFLOW_TRACKING_URI": ""}),
    ],
)
def test_a_login_in_the_tracking_uri_goes_where_mlflow_keeps_logins(uri: str, expected: dict[str, str]) -> None:
    env = {"MLFLOW_TRACKING_URI": uri}
    prepare(env)
    assert {name: value for name, value in env.items() if name.startswith("MLFLOW_TRACKING")} == expected


def test_what_was_excepted_from_the_proxy_stays_so() -> None:
    env = {"no_proxy": "clinic.local, 10.0.0.1", "NO_PROXY": "other"}
    for _ in range(2):
        prepare(env)
    assert env["no_proxy"] == env["NO_PROXY"] == "clinic.local,10.0.0.1,localhost,127.0.0.1,127.0.0.0/8,::1,[::1]"
    assert without_proxy({"NO_PROXY": "*"}) == {"no_proxy": "*", "NO_PROXY": "*"}


@pytest.fixture
def only_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name, value in without_proxy(os.environ).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def address() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("only_through_the_proxy")
def test_loopback_is_not_asked_through_the_proxy(address: str) -> None:
    for url in (f"http://{address}/", f"http://localhost:{address.partition(':')[2]}/"):
        assert requests.get(url, timeout=5).status_code == 200
        with urllib.request.build_opener().open(url, timeout=5) as response:
            assert response.status == 200
    assert [should_bypass_proxies(f"http://{host}:5000/", None) for host in ("127.0.0.5", "[::1]", "mlflow.localhost")] == [
        True
    ] * 3
    assert [should_bypass_proxies(f"http://{host}:5000/", None) for host in ("mlflow", "10.0.0.1", "notlocalhost")] == [
        False
    ] * 3


def test_what_is_loopback() -> None:
    here = ("http://127.0.0.1:8080", "http://127.9.9.9/x", "http://[::1]:1", "http://LOCALHOST", "http://a.localhost")
    assert all(map(is_loopback, here))
    assert not any(map(is_loopback, ("http://10.0.0.1", "http://model", "http://localhost.example", "", "no address")))
