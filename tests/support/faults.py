"""A proxy before a real server that may answer for it, or break the connection."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, bytes]
Fault = Callable[[str, Callable[[], Answer]], Answer | None]
"""Path and a function that asks the server -> what the client gets; None: the connection breaks."""


class Proxy:
    """Stands between a client and the server at `target` (http://127.0.0.1:PORT)."""

    def __init__(self, target: str) -> None:
        self.calls: list[str] = []
        """Paths, in order"""
        self.fault: Fault = lambda path, forward: forward()
        proxy, port = self, int(target.rpartition(":")[2])

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.calls.append(self.path)

                def forward() -> Answer:
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                    kept = {name: value for name, value in self.headers.items() if name not in ("Host", "Connection")}
                    connection.request(self.command, self.path, body, kept)
                    response = connection.getresponse()
                    try:
                        return response.status, response.read()
                    finally:
                        connection.close()

                answer = proxy.fault(self.path, forward)
                if answer is None:
                    return
                self.send_response(answer[0])
                self.send_header("Content-Length", str(len(answer[1])))
                self.end_headers()
                self.wfile.write(answer[1])

            do_GET = do_POST = do_PUT = do_PATCH = _serve  # noqa: N815

            def log_message(self, *arguments: Any) -> None:
                """Nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """A client that has given up waiting closes the connection: that is what a fault is about."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@contextmanager
def faulty(target: str) -> Iterator[Proxy]:
    """A Proxy that runs until the block ends."""
    made = Proxy(target)
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join()
