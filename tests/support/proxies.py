"""A real nginx with the proxy's configuration, and stand-ins for the model servers behind it."""

import hashlib
import http.client
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from eye_disease.serving.proxy import Proxy, nginx_command
from tests.support.servers import end, free_port

needs_nginx = pytest.mark.skipif(
    shutil.which("nginx") is None and not Path("/usr/sbin/nginx").exists(), reason="needs nginx (Debian: apt install nginx)"
)


@dataclass
class Backend:
    """Stands for a served model: says who it is, and what it was sent."""

    name: str
    delay_s: float = 0.0
    status: int = 200
    bodies: list[str] = field(default_factory=list)
    """SHA-256 of each body, in order"""
    paths: list[str] = field(default_factory=list)
    address: str = ""

    def wait_for(self, bodies: int) -> None:
        """Until it has been sent so many."""
        deadline = time.monotonic() + 20
        while len(self.bodies) < bodies:
            assert time.monotonic() < deadline, f"{self.name} was sent {len(self.bodies)} of {bodies} requests"
            time.sleep(0.01)


@contextmanager
def backend(name: str, delay_s: float = 0.0, status: int = 200) -> Iterator[Backend]:
    """A Backend that runs until the block ends."""
    made = Backend(name, delay_s, status)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            digest = hashlib.sha256(self.rfile.read(int(self.headers["Content-Length"]))).hexdigest()
            made.paths.append(self.path)
            made.bodies.append(digest)
            time.sleep(made.delay_s)
            self._answer(made.status, {"name": made.name, "body": digest})

        def do_GET(self) -> None:
            made.paths.append(self.path)
            self._answer(200, {"name": made.name})

        def _answer(self, status: int, content: dict[str, str]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            """Nothing: pytest's output is for the tests."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A proxy that has given up waiting closes the connection: that is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    made.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Running:
    """An nginx that runs."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    def connect(self, source: str = "127.0.0.1") -> http.client.HTTPConnection:
        """A client's connection; source: the address it comes from."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60, source_address=(source, 0))

    def post(self, body: bytes = b"{}", client: str = "", path: str = "/invocations") -> tuple[int, dict[str, str]]:
        """(status, answer) of one request on a connection of its own; an answer that is not JSON is {}."""
        connection = self.connect()
        try:
            return ask(connection, body, client, path)
        finally:
            connection.close()

    def log(self, name: str = "error.log") -> str:
        return (self.folder / name).read_text()


def ask(
    connection: http.client.HTTPConnection, body: bytes = b"{}", client: str = "", path: str = "/invocations"
) -> tuple[int, dict[str, str]]:
    """(status, answer) of one POST."""
    connection.request("POST", path, body, {"Content-Type": "application/json"} | ({"X-Client-Id": client} if client else {}))
    response = connection.getresponse()
    data = response.read()
    return response.status, json.loads(data) if data.startswith(b"{") else {}


@contextmanager
def nginx(champion: str, **options: object) -> Iterator[Running]:
    """nginx with the configuration of a Proxy, run by a user without rights, until the block ends."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        configuration = Proxy(champion, listen=f"127.0.0.1:{port}", **options).write(folder)
        nobody = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
        if nobody:
            for path in (folder, *folder.rglob("*")):
                shutil.chown(path, "nobody", "nogroup")
        process = subprocess.Popen(nginx_command(configuration), stderr=subprocess.PIPE, start_new_session=True, **nobody)
        try:
            _wait_until_listening(port, process)
            yield Running(port, folder, process)
        finally:
            end(process)
            process.stderr.close()


def _wait_until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.connect()
            return
        except OSError:
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline, "nginx does not listen"
            time.sleep(0.02)
        finally:
            connection.close()
