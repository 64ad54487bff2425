"""deploy/nginx/nginx.conf before a stand-in for the model server: what a stranger sends costs the others nothing."""

import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.browser import look, needs_chromium
from tests.support.proxies import Backend, backend, needs_nginx
from tests.support.servers import PROJECT, end, free_port

pytestmark = needs_nginx
KEY = "0123456789abcdef" * 4
MIB = 1 << 20


@dataclass
class Front:
    """A running nginx."""

    port: int
    tmp: Path
    model: Backend
    trusted: ssl.SSLContext

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("localhost", self.port, timeout=30, context=self.trusted)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
        with closing(self.connect()) as connection:
            # Refused before all was sent: the answer can be read nevertheless.
            with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            with connection.getresponse() as response:
                return response.status, response.read().decode()

    def raw(self) -> ssl.SSLSocket:
        return self.trusted.wrap_socket(socket.create_connection(("localhost", self.port), 30), server_hostname="localhost")

    @property
    def kept_bytes(self) -> int:
        """Of bodies, in nginx's temporary folder."""
        files = (path.stat() for path in self.tmp.rglob("*") if path.is_file() and path.name != "nginx.pid")
        return sum(stat.st_blocks * 512 for stat in files)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("nginx")
    tmp = folder / "tmp"
    tmp.mkdir()
    for path in (folder, tmp, *folder.parents):
        if path.is_relative_to("/tmp") and path != Path("/tmp"):
            path.chmod(0o777)
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    request += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    subprocess.run(request, check=True, capture_output=True)
    shutil.copytree(PROJECT / "docs", folder / "docs")  # where any user may read it
    (folder / "keys").write_text(f'"{KEY}" clinic-a;\n')
    with backend("model") as model:
        port = free_port()
        text = (PROJECT / "deploy" / "nginx" / "nginx.conf").read_text()
        for old, new in (
            ("/tmp/", f"{tmp}/"),
            ("/run/secrets/api_keys", str(folder / "keys")),
            ("/run/secrets/tls_certificate", str(folder / "certificate")),
            ("/run/secrets/tls_key", str(folder / "key")),
            ("model-1:8080", model.address),
            ("model-2:8080", model.address),
            ("mlflow:5000", model.address),
            ("/usr/share/eye-docs", str(folder / "docs")),
            ("0.0.0.0:8443", f"127.0.0.1:{port}"),
            ("0.0.0.0:5443", f"127.0.0.1:{free_port()}"),
            ("127.0.0.1:8081", f"127.0.0.1:{free_port()}"),
            ("client_header_timeout 10s", "client_header_timeout 2s"),
            ("client_body_timeout 15s", "client_body_timeout 2s"),
            ("/dev/stdout", str(folder / "access.log")),
        ):
            assert old in text, old
            text = text.replace(old, new)
        (folder / "nginx.conf").write_text(text)
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        with (folder / "error.log").open("w") as log:
            process = subprocess.Popen([program, "-c", str(folder / "nginx.conf")], stderr=log, start_new_session=True)
        made = Front(port, tmp, model, ssl.create_default_context(cafile=str(folder / "certificate")))
        deadline = time.monotonic() + 20
        while True:
            try:
                made.ask("GET", "/nothing")
                break
            except OSError:
                assert process.poll() is None, (folder / "error.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield made
        end(process)


def _error(text: str) -> str:
    return json.loads(text)["error"]


def test_the_configuration_is_one_that_nginx_takes(front: Front) -> None:
    assert front.ask("POST", "/invocations", b"{}", X_Api_Key=KEY, Content_Type="application/json")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_body_for_ping_is_refused_and_never_kept(front: Front, method: str) -> None:
    status, text = front.ask(method, "/ping", bytes(8 * MIB))
    assert status in (405, 413)
    assert _error(text)
    assert front.kept_bytes == 0


def test_bodies_without_a_key_fill_nothing(front: Front) -> None:
    """Eight at once, each begun and then held open."""
    with ExitStack() as stack:
        held = [stack.enter_context(front.raw()) for _ in range(8)]
        for stream, path in zip(held, ("/ping", "/invocations") * 4, strict=True):
            lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
            stream.sendall("\r\n".join([*lines, f"Content-Length: {64 * MIB}", "", ""]).encode())
        answers = [stream.recv(4096).decode() for stream in held]
        assert all(re.match(r"HTTP/1.1 (401|405|413) ", answer) for answer in answers), answers
        assert front.kept_bytes == 0
    assert front.ask("POST", "/invocations", bytes(2 * MIB), X_Api_Key=KEY, Content_Type="application/json")[0] == 200


def test_a_chunked_body_without_end_is_cut_off(front: Front) -> None:
    with front.raw() as stream:
        stream.sendall(b"GET /ping HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError):
            while True:
                stream.sendall(b"2000\r\n" + bytes(0x2000) + b"\r\n")
                time.sleep(0.01)
        assert front.kept_bytes == 0


@pytest.mark.parametrize("key", [KEY.upper(), KEY[:-1], KEY + "0", f" {KEY}0", "", "~.*"])
def test_a_key_is_compared_letter_by_letter(front: Front, key: str) -> None:
    before = len(front.model.bodies)
    status, text = front.ask("POST", "/invocations", b"{}", X_Api_Key=key, Content_Type="application/json")
    assert status == 401
    assert "X-Api-Key" in _error(text)
    assert len(front.model.bodies) == before


def test_no_content_type_is_a_415_with_a_sentence(front: Front) -> None:
    with closing(front.connect()) as connection:
        connection.putrequest("POST", "/invocations", skip_accept_encoding=True)
        connection.putheader("X-Api-Key", KEY)
        connection.putheader("Content-Length", "2")
        connection.endheaders(b"{}")
        with connection.getresponse() as response:
            assert response.status == 415
            assert "application/json" in _error(response.read().decode())


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("GET", "/invocations", {"X_Api_Key": KEY}, 405),
        ("GET", "/nothing", {}, 404),
        ("GET", "/" + "x" * 40_000, {}, 414),
        ("GET", "/ping", {"X_Filler": "x" * 40_000}, 400),
    ],
)
def test_every_error_is_json(front: Front, method: str, path: str, headers: dict[str, str], expected: int) -> None:
    status, text = front.ask(method, path, **headers)
    assert status == expected
    assert _error(text)


def test_slow_headers_and_slow_bodies_end(front: Front) -> None:
    head = f"POST /invocations HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\nContent-Type: application/json\r\n"
    with front.raw() as slow_header, front.raw() as slow_body:
        slow_header.sendall(b"GET /ping HTTP/1.1\r\nHost: loc")
        slow_body.sendall(head.encode() + b"Content-Length: 1000\r\n\r\n{")
        for stream in (slow_header, slow_body):
            with suppress(ConnectionResetError):
                while stream.recv(4096):  # until nginx closes it, or the socket's own 30 s are over
                    continue
    assert front.ask("GET", "/ping")[0] == 200


def test_many_idle_connections_leave_room(front: Front) -> None:
    idle = [socket.create_connection(("localhost", front.port), 30) for _ in range(600)]
    answers: list[int] = []
    asking = threading.Thread(
        target=lambda: answers.append(
            front.ask("POST", "/invocations", b"{}", X_Api_Key=KEY, Content_Type="application/json")[0]
        )
    )
    asking.start()
    asking.join(20)
    assert answers == [200]
    for stream in idle:
        stream.close()


def test_what_waits_has_room(front: Front) -> None:
    """The bodies that may wait at a time fit into the proxy's memory."""
    text = (PROJECT / "deploy" / "nginx" / "nginx.conf").read_text()
    bodies = int(re.search(r"limit_conn all (\d+);", text)[1])
    largest = max(int(size) for size in re.findall(r"client_max_body_size (\d+)m;", text))
    compose = (PROJECT / "deploy" / "docker-compose.yml").read_text()
    room = int(re.search(r"/tmp:size=(\d+)g", compose[compose.index("  proxy:") :])[1]) * 1024
    assert bodies * largest <= 0.8 * room


def test_the_apis_description_and_its_viewer_are_served(front: Front) -> None:
    assert front.ask("GET", "/docs")[0] == 308
    status, page = front.ask("GET", "/docs/")
    assert (status, "rapi-doc" in page) == (200, True)
    assert front.ask("GET", "/docs/openapi.yaml") == (200, (PROJECT / "docs" / "openapi.yaml").read_text())
    assert front.ask("GET", "/docs/rapidoc-min.js")[0] == 200
    assert front.ask("GET", "/docs/../openapi.yaml")[0] == 404
    assert front.ask("GET", "/docs/DRIFT.md")[0] == 404
    assert front.ask("POST", "/docs/", b"{}")[0] == 405


@needs_chromium
def test_a_browser_shows_the_api_without_asking_anybody_else(front: Front, tmp_path: Path) -> None:
    (seen,) = look({"docs": f"https://localhost:{front.port}/docs/"}, tmp_path, "--ignore-certificate-errors").values()
    with Image.open(seen.picture) as picture:
        dark = (np.asarray(picture.convert("L"), int) < 128).sum()
    assert dark > 3000, "an empty page: its words were not drawn"
