"""A/B split and shadow through a real nginx; stand-ins answer, slowly, wrongly or not at all."""

import hashlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eye_disease.serving import proxy
from eye_disease.serving.proxy import Proxy, ProxyError, nginx_command
from tests.support.proxies import Backend, Running, ask, backend, needs_nginx, nginx
from tests.support.servers import environment, free_port, python

CLIENTS = [f"clinic-{n}" for n in range(400)]
BIG = os.urandom(1 << 20) * 60
"""60 MiB: a photo of 45 MB as base64."""


@pytest.fixture(scope="module")
def champion() -> Iterator[Backend]:
    with backend("champion") as made:
        yield made


@pytest.fixture(scope="module")
def challenger() -> Iterator[Backend]:
    with backend("challenger") as made:
        yield made


@pytest.fixture(scope="module")
def split(champion: Backend, challenger: Backend) -> Iterator[Running]:
    with nginx(champion.address, challenger=challenger.address, percent=25) as made:
        yield made


def _assigned(running: Running, clients: list[str]) -> dict[str, str]:
    """Client -> who answered it, all over one connection."""
    connection = running.connect()
    answers = {client: ask(connection, client=client) for client in clients}
    connection.close()
    assert {status for status, _ in answers.values()} == {200}
    return {client: answer["name"] for client, (_, answer) in answers.items()}


@needs_nginx
def test_a_client_always_gets_the_same_version_and_the_challenger_its_share(split: Running) -> None:
    first = _assigned(split, CLIENTS)
    assert _assigned(split, CLIENTS[::-1]) == first
    # 25 % of 400 are 100, give or take four standard deviations of 8.7.
    assert 65 < Counter(first.values())["challenger"] < 135


@needs_nginx
def test_without_a_header_the_address_is_the_client(split: Running) -> None:
    answered: dict[str, set[str]] = {}
    for source in [f"127.0.1.{n}" for n in range(1, 41)] * 2:
        connection = split.connect(source)
        answered.setdefault(source, set()).add(ask(connection)[1]["name"])
        connection.close()
    assert {len(names) for names in answered.values()} == {1}
    assert {name for names in answered.values() for name in names} == {"champion", "challenger"}


@needs_nginx
@pytest.mark.parametrize("fault", ["dead", "broken", "slow"])
def test_where_the_challenger_fails_the_champion_answers(champion: Backend, fault: str) -> None:
    with backend("challenger", status=503 if fault == "broken" else 200, delay_s=5.0 if fault == "slow" else 0) as bad:
        address = f"127.0.0.1:{free_port()}" if fault == "dead" else bad.address
        with nginx(champion.address, challenger=address, percent=99.99, timeout_seconds=1) as running:
            body = b"a photo" * 1000
            status, answer = running.post(body, "clinic-1")
            assert (status, answer) == (200, {"name": "champion", "body": hashlib.sha256(body).hexdigest()})
            assert champion.paths[-1] == "/invocations"
        assert bool(bad.bodies) == (fault != "dead")


@needs_nginx
def test_a_refused_request_is_an_answer(champion: Backend) -> None:
    with (
        backend("challenger", status=400) as strict,
        nginx(champion.address, challenger=strict.address, percent=99.99) as running,
    ):
        assert running.post()[0] == 400


@needs_nginx
def test_a_dead_champion_costs_its_own_clients_only(challenger: Backend, split: Running) -> None:
    assigned = _assigned(split, CLIENTS[:40])
    with nginx(f"127.0.0.1:{free_port()}", challenger=challenger.address, percent=25) as running:
        answered = {client: running.post(client=client)[0] for client in assigned}
    assert answered == {client: 200 if name == "challenger" else 502 for client, name in assigned.items()}


@needs_nginx
def test_a_shadow_gets_every_request_and_answers_nobody(champion: Backend) -> None:
    bodies = [os.urandom(size) for size in (1, 1000, 300_000)]
    with backend("shadow") as shadow, nginx(champion.address, shadow=shadow.address) as running:
        answers = [running.post(body, client=f"clinic-{n}") for n, body in enumerate(bodies)]
        shadow.wait_for(len(bodies))
    digests = [hashlib.sha256(body).hexdigest() for body in bodies]
    assert answers == [(200, {"name": "champion", "body": digest}) for digest in digests]
    assert sorted(shadow.bodies) == sorted(digests)
    assert set(shadow.paths) == {"/invocations"}


@needs_nginx
@pytest.mark.parametrize("fault", ["dead", "broken", "slow"])
def test_a_bad_shadow_is_not_noticed(champion: Backend, fault: str) -> None:
    with backend("shadow", status=500 if fault == "broken" else 200, delay_s=3.0 if fault == "slow" else 0) as bad:
        address = f"127.0.0.1:{free_port()}" if fault == "dead" else bad.address
        with nginx(champion.address, shadow=address) as running:
            connection, start = running.connect(), time.monotonic()
            answers = [ask(connection) for _ in range(30)]  # more than the copies that may be under way
            took = time.monotonic() - start
            connection.close()
    assert {(status, answer["name"]) for status, answer in answers} == {(200, "champion")}
    assert took < 2.0


@needs_nginx
@pytest.mark.parametrize("role", ["challenger", "shadow"])
def test_a_large_request_passes_and_touches_no_disk(champion: Backend, role: str) -> None:
    with backend("other") as other, nginx(champion.address, **{role: other.address}) as running:
        digest = hashlib.sha256(BIG).hexdigest()
        assert running.post(BIG)[1]["body"] == digest
        if role == "shadow":
            other.wait_for(1)
            assert other.bodies == [digest]
        assert [path for path in (running.folder / "temporary").rglob("*") if path.is_file()] == []
        assert "temporary file" not in running.log()


@needs_nginx
def test_a_request_beyond_the_limit_is_refused(champion: Backend, challenger: Backend) -> None:
    with nginx(champion.address, challenger=challenger.address, max_body_mb=1) as running:
        connection = running.connect()
        connection.putrequest("POST", "/invocations")
        connection.putheader("Content-Length", str(1 << 21))
        connection.endheaders()
        assert connection.getresponse().status == 413
        connection.close()


@needs_nginx
def test_the_champion_is_asked_how_the_service_is_and_nothing_else_is_open(champion: Backend, split: Running) -> None:
    connection = split.connect()
    answers = {}
    for path in ("/ping", "/health", "/version", "/", "/docs", "/champion/invocations", "/challenger/invocations", "/shadow"):
        connection.request("GET", path)
        response = connection.getresponse()
        answers[path] = (response.status, b"champion" in response.read())
    connection.close()
    assert {path for path, answer in answers.items() if answer == (200, True)} == {"/ping", "/health", "/version"}
    assert {answer for path, answer in answers.items() if path not in ("/ping", "/health", "/version")} == {(404, False)}
    assert split.post(path="/challenger/invocations")[0] == 404


@needs_nginx
def test_logs_name_no_client(split: Running) -> None:
    split.post(client="clinic-of-dr-who")
    written = split.log("access.log") + split.log()
    assert "/invocations 200" in written
    assert "clinic" not in written
    assert "127.0.0.1 " not in written


@needs_nginx
def test_the_share_changes_while_it_runs(champion: Backend, challenger: Backend) -> None:
    with nginx(champion.address, challenger=challenger.address, percent=0.01) as running:
        assert set(_assigned(running, CLIENTS[:20]).values()) == {"champion"}
        listen = f"127.0.0.1:{running.port}"
        command = nginx_command(Proxy(champion.address, challenger.address, percent=99.99, listen=listen).write(running.folder))
        subprocess.run([*command, "-s", "reload"], check=True)
        deadline = time.monotonic() + 20
        # A connection a request: processes of the former configuration close those they hold open whenever they end.
        while {running.post(client=client)[1].get("name") for client in CLIENTS[:20]} != {"challenger"}:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@needs_nginx
def test_a_configuration_that_nginx_refuses_replaces_nothing(tmp_path: Path) -> None:
    good = Proxy("127.0.0.1:1", challenger="127.0.0.1:2", listen=f"127.0.0.1:{free_port()}").write(tmp_path).read_text()
    with pytest.raises(ProxyError, match=r"does not take .*host not found in upstream"):
        Proxy("no-such-host.invalid:1", challenger="127.0.0.1:2").write(tmp_path)
    assert (tmp_path / "nginx.conf").read_text() == good


@needs_nginx
def test_the_command_writes_and_says_how_to_run(tmp_path: Path) -> None:
    arguments = ("proxy.py", "--champion", "127.0.0.1:8081", "--challenger", "127.0.0.1:8082", "--percent", "12.5")
    listen = f"127.0.0.1:{free_port()}"
    done = python(*arguments, "--listen", listen, "--folder", str(tmp_path / "proxy"), env=environment())
    assert done.returncode == 0, done.stderr
    assert f"-c {tmp_path}/proxy/nginx.conf" in done.stdout
    assert "12.50%  challenger;" in (tmp_path / "proxy" / "nginx.conf").read_text()
    refused = python(*arguments[:-1], "0", env=environment())
    assert refused.returncode == 1
    assert refused.stderr.strip() == "proxy.py: percent=0 is not valid. Expected 0.01 to 99.99."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "either a challenger"),
        ({"challenger": "b:2", "shadow": "c:3"}, "either a challenger"),
        ({"champion": "", "shadow": "c:3"}, "champion is missing"),
        ({"challenger": "http://b:2"}, r"challenger='http://b:2' is not an address. Expected host:port"),
        ({"shadow": "c:99999"}, "shadow='c:99999' is not an address"),
        ({"shadow": "c:3; } evil {"}, "is not an address"),
        ({"challenger": "a:1"}, "Both versions are at a:1"),
        ({"challenger": "b:2", "percent": float("nan")}, "percent=nan is not valid"),
        ({"challenger": "b:2", "percent": 100}, r"percent=100 is not valid. Expected 0.01 to 99.99"),
        ({"challenger": "b:2", "client_header": "X Client;"}, "is not the name of a header"),
        ({"challenger": "b:2", "timeout_seconds": 0}, "timeout_seconds=0 is not valid"),
        ({"challenger": "b:2", "max_body_mb": 0}, "max_body_mb=0 is not valid"),
    ],
)
def test_what_does_not_fit_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProxyError, match=message):
        Proxy(**{"champion": "a:1"} | changes)


def test_without_nginx_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy.shutil, "which", lambda name, path=None: None)
    with pytest.raises(ProxyError, match="apt install nginx"):
        Proxy("a:1", challenger="b:2").write(tmp_path)
    assert not (tmp_path / "nginx.conf").exists()


def test_the_command_needs_no_mlflow() -> None:
    code = "import sys; import eye_disease.serving.proxy; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment(), check=False).returncode == 0
