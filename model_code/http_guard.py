"""ASGI middleware before MLflow's scoring server: says 503 in time, 415 in words, and keeps photos out of errors.

MLflow answers a model's errors without headers, and its own with the whole request in them. Its application is an ASGI app, so
both are mended where ASGI means them to be: in a middleware, which the model adds while MLflow's server starts.
"""

import asyncio
import json
import logging
import math
import sys
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from model_code.errors import BusyError
from model_code.load_gate import LoadGate
from model_code.schema import EXPECTED

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]

_DRAIN_SECONDS = 10
_NO_CONTENT_TYPE = "The request has no Content-Type. Expected application/json, text/csv or application/vnd.apache.parquet."
_SERVER = "mlflow.pyfunc.scoring_server.app"
_ECHO = ("Error:", "\nInput:", "Received", "Got ", "Encountered an unexpected")
"""Where MLflow's words on a request end and the request begins."""
_PREDICT, _REASON = "Failed to predict data", "\nError: "
"""With which MLflow begins an error, before the request; and what stands between that and the reason."""
_SCHEMA = "Failed to enforce schema"
"""The reason that begins with the request once more."""
_MAX_REASON = 300


def attach(gate: LoadGate) -> bool:
    """Put the guard into MLflow's app, if its server is just starting: it makes the app once the model is loaded.

    Says whether it is.
    """
    for name in ("mlflow.models.utils", "mlflow.pyfunc"):
        logging.getLogger(name).addFilter(_without_request)
    server = sys.modules.get(_SERVER)
    if server is None or hasattr(server, "app"):
        return False  # loaded by a script
    import fastapi

    make = fastapi.FastAPI

    def make_guarded(*args: Any, **kwargs: Any) -> fastapi.FastAPI:
        setattr(fastapi, "FastAPI", make)  # noqa: B010, for the type checker
        app = make(*args, **kwargs)
        app.add_middleware(HttpGuard, gate=gate)
        return app

    setattr(fastapi, "FastAPI", make_guarded)  # noqa: B010
    return True


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
        mended = _Mended(send, self._gate)
        if self._gate.is_full():
            await _drain(receive)
            await mended.refuse(BusyError(self._gate.limit_seconds))
        elif not any(name == b"content-type" for name, _ in scope["headers"]):
            await _drain(receive)
            await _answer(send, 415, "BAD_REQUEST", _NO_CONTENT_TYPE)
        else:
            body = await _whole_body(receive)
            if self._gate.is_full():  # many have been sent at once
                await mended.refuse(BusyError(self._gate.limit_seconds))
                return
            with self._gate.request():
                await self._app(scope, _replaying(body, receive), mended)


class _Mended:
    """Passes an answer on: one that says 503 with a Retry-After, an error of MLflow's own without the request."""

    def __init__(self, send: _Send, gate: LoadGate) -> None:
        self._send = send
        self._gate = gate
        self._start: _Message | None = None
        self._body = b""

    async def __call__(self, message: _Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 503:
            message["headers"] = [*message["headers"], self._retry_after()]
        if message["type"] == "http.response.start" and message["status"] == 400:
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await _answer(self._send, 400, *_cleaned(self._body))

    async def refuse(self, error: BusyError) -> None:
        """Answer with an error of the model's."""
        status: int = error.get_http_status_code()  # type: ignore[no-untyped-call] # MLflow has no types here
        await _answer(self, status, error.error_code, error.message)

    def _retry_after(self) -> tuple[bytes, bytes]:
        return b"retry-after", str(max(1, math.ceil(self._gate.wait_seconds() - self._gate.limit_seconds))).encode()


def _cleaned(body: bytes) -> tuple[str, str]:
    """(error code, message) of an error of MLflow's, with no part of the request."""
    try:
        error = json.loads(body)
        code, message = str(error["error_code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        return "BAD_REQUEST", EXPECTED
    if message.startswith(_PREDICT):
        reason = message.rpartition(_REASON)[2]
        return code, EXPECTED if not reason or _SCHEMA in message else reason[:_MAX_REASON]
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


async def _whole_body(receive: _Receive) -> deque[_Message]:
    """The messages that bring a request's body; MLflow, further out, waits for its answer 60 s in all."""
    messages = deque([await receive()])
    while messages[-1].get("more_body"):
        messages.append(await receive())
    return messages


def _replaying(messages: deque[_Message], receive: _Receive) -> _Receive:
    async def replaying() -> _Message:
        return messages.popleft() if messages else await receive()

    return replaying


async def _answer(send: _Send, status: int, code: str, message: str) -> None:
    body = json.dumps({"error_code": code, "message": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
