"""Load on an HTTP server of this machine: N clients with a persistent connection each, a fixed number of requests.

Plain sockets and ready-made requests: on few cores the client takes time from the server, so it does as little as it can.
"""

import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

_TIMEOUT_SECONDS = 300


class RequestError(RuntimeError):
    """An answer other than 200."""


@dataclass(frozen=True)
class Sample:
    """A measurement of `len(latencies_ms)` requests."""

    latencies_ms: list[float]
    seconds: float
    """From the first request's start to the last answer."""


def http_request(path: str, body: bytes) -> bytes:
    """The bytes of a POST request with a JSON body."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection:
    """A persistent connection to 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, request: bytes) -> bytes:
        """Send a request and return the answer's body. Raises RequestError."""
        self._socket.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive()
        head, _, body = received.partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        while len(body) < length:
            body += self._receive()
        if head.split(b" ", 2)[1] != b"200":
            raise RequestError(f"{head.splitlines()[0].decode()}: {body[:300].decode(errors='replace')}")
        return body

    def _receive(self) -> bytes:
        if not (part := self._socket.recv(65536)):
            raise RequestError("the server has closed the connection")
        return part


def measure(port: int, requests: Sequence[bytes], clients: int, count: int) -> Sample:
    """Send `count` requests, going round `requests`, from `clients` at a time; each client waits for its answer.

    One request and all connections are made before the clock starts. (The connections are not used before it: uvicorn
    closes those that wait longer than 5 s for their next request, as they would until the others of a slow server are ready.)
    """
    with Connection(port) as connection:
        connection.send(requests[0])
    start_together = threading.Barrier(clients)
    shares = [range(first, count, clients) for first in range(clients)]

    def client(share: range) -> tuple[list[float], float, float]:
        try:
            with Connection(port) as connection:
                start_together.wait()
                started = time.perf_counter()
                latencies = []
                for i in share:
                    before = time.perf_counter()
                    connection.send(requests[i % len(requests)])
                    latencies.append((time.perf_counter() - before) * 1000)
                return latencies, started, time.perf_counter()
        except BaseException:
            start_together.abort()  # the others would wait for this client for ever
            raise

    with ThreadPoolExecutor(clients) as pool:
        futures = [pool.submit(client, share) for share in shares]
    errors = [error for future in futures if (error := future.exception())]
    if errors:
        raise next((error for error in errors if not isinstance(error, threading.BrokenBarrierError)), errors[0])
    done = [future.result() for future in futures]
    latencies = [latency for times, _, _ in done for latency in times]
    return Sample(latencies, max(end for _, _, end in done) - min(start for _, start, _ in done))
