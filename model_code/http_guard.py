"""What stands between MLflow's scoring server and its clients: says 503 in time, 415 in words, and keeps photos out of errors.

MLflow answers a model's errors without headers, and its own with the whole request in them. Its application is an ASGI app, so
both are mended where ASGI means them to be: in a middleware, which the model adds when MLflow's server loads it.
"""

import asyncio
import json
import logging
import math
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import ExitStack, suppress
from typing import Any

from model_code.load_gate import LoadGate
from model_code.schema import EXPECTED

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]

_DRAIN_SECONDS = 10
_SERVER = "mlflow.pyfunc.scoring_server.app"
_ECHO = ("Error:", "\nInput:", "Received", "Got ", "Encountered an unexpected")
"""Where MLflow's words on a request end and the request begins."""
_PREDICT, _REASON = "Failed to predict data", "\nError: "
"""With which MLflow begins an error, before the request; and what stands between that and the reason."""
_MAX_REASON = 300


def attach(gate: LoadGate) -> None:
    """Put the guard before MLflow's app, if this is its server's start. (The app is made once the model is loaded.)"""
    for name in ("mlflow.models.utils", "mlflow.pyfunc"):
        logging.getLogger(name).addFilter(_without_request)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return  # loaded by a script
    loop.call_soon(_add, gate)


def _add(gate: LoadGate) -> None:
    if server := sys.modules.get(_SERVER):
        server.app.add_middleware(HttpGuard, gate=gate)


def _without_request(record: logging.LogRecord) -> bool:
    """MLflow warns of columns and params that it does not know by their names, which may be a photo."""
    if "extra inputs" in record.getMessage() or "params" in record.getMessage():
        record.msg, record.args = "A request has columns or params that are not in the signature; they are ignored.", ()
    return True


class HttpGuard:
    """ASGI middleware around POST /invocations."""

    def __init__(self, app: _App, gate: LoadGate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Pass a request on, or answer it here."""
        if scope["type"] != "http" or scope["path"] != "/invocations" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        limit, wait = self._gate.limit_seconds, self._gate.wait_seconds()
        if wait > limit:
            retry = math.ceil(wait - limit)
            text = f"More photos wait than are answered in {limit:g} s (MAX_WAIT_SECONDS). Try again in {retry} s."
            await _drain(receive)
            await _answer(send, 503, "TEMPORARILY_UNAVAILABLE", text, {b"retry-after": str(retry).encode()})
        elif not any(name == b"content-type" for name, _ in scope["headers"]):
            text = "The request has no Content-Type. Expected application/json, text/csv or application/vnd.apache.parquet."
            await _drain(receive)
            await _answer(send, 415, "BAD_REQUEST", text, {})
        else:
            with ExitStack() as counted:
                await self._app(scope, self._counting(receive, counted), _Cleaned(send))

    def _counting(self, receive: _Receive, counted: ExitStack) -> _Receive:
        """`receive` that tells the gate of a request once it has arrived whole."""
        arrived = False

        async def counting() -> _Message:
            nonlocal arrived
            message = await receive()
            if not arrived and not message.get("more_body"):
                arrived = True
                counted.enter_context(self._gate.request())
            return message

        return counting


class _Cleaned:
    """Passes an answer on; an error of MLflow's own without the request."""

    def __init__(self, send: _Send) -> None:
        self._send = send
        self._start: _Message | None = None
        self._body = b""

    async def __call__(self, message: _Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 400:
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                code, text = _cleaned(self._body)
                await _answer(self._send, 400, code, text, {})


def _cleaned(body: bytes) -> tuple[str, str]:
    """(error code, message) of an error of MLflow's, with no part of the request."""
    try:
        error = json.loads(body)
        code, message = str(error["error_code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        return "BAD_REQUEST", EXPECTED
    if message.startswith(_PREDICT):
        return code, message.rpartition(_REASON)[2][:_MAX_REASON]
    if "stack_trace" not in error and not any(mark in message for mark in _ECHO):
        return code, message
    start = min((message.find(mark) for mark in _ECHO if mark in message), default=0)
    return code, f"{message[:start].strip()} {EXPECTED}".strip()


async def _drain(receive: _Receive) -> None:
    """Take in what a client is still sending: a connection that is closed before would cost it the answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while (await receive()).get("more_body"):
                pass


async def _answer(send: _Send, status: int, code: str, message: str, headers: dict[bytes, bytes]) -> None:
    body = json.dumps({"error_code": code, "message": message}).encode()
    head = {b"content-type": b"application/json", b"content-length": str(len(body)).encode()} | headers
    await send({"type": "http.response.start", "status": status, "headers": list(head.items())})
    await send({"type": "http.response.body", "body": body})
