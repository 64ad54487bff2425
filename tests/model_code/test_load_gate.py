import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from model_code.http_guard import HttpGuard
from model_code.load_gate import LoadGate
from model_code.schema import EXPECTED


def _worked(gate: LoadGate, photos: int, seconds: float) -> None:
    with gate.photos(photos) as answered:
        for _ in range(photos):
            time.sleep(seconds)
            answered()


@pytest.fixture
def busy() -> Iterator[LoadGate]:
    """20 photos wait, of 0.02 s each or a little more; waiting 0.1 s is too long."""
    gate = LoadGate(0.1)
    _worked(gate, 5, 0.02)
    with gate.photos(20):
        yield gate


def test_a_gate_that_has_seen_nothing_is_open() -> None:
    gate = LoadGate(0.001)
    assert not gate.is_full()
    with gate.photos(1_000_000):
        assert not gate.is_full()


def test_the_wait_is_that_of_the_photos_before(busy: LoadGate) -> None:
    assert busy.wait_seconds() >= 20 * 0.02
    assert busy.is_full()


def test_an_idle_server_is_open_whatever_it_has_seen() -> None:
    gate = LoadGate(0.001)
    _worked(gate, 5, 0.02)
    with gate.request():
        assert not gate.is_full()


def test_requests_without_a_thread_count_as_many_photos_as_usual(busy: LoadGate) -> None:
    before = busy.wait_seconds()
    with ExitStack() as waiting:
        for _ in range(10):
            waiting.enter_context(busy.request())
        assert busy.wait_seconds() > 2 * before
    assert busy.wait_seconds() == before


def test_of_many_requests_at_once_only_the_first_are_taken() -> None:
    gate = LoadGate(0.5)
    _worked(gate, 10, 0.02)
    with ExitStack() as waiting:
        taken = 0
        while not gate.is_full():
            waiting.enter_context(gate.request())
            taken += 1
        assert 1 < taken < 10


def test_a_request_counts_once_when_its_photos_are_known() -> None:
    gate = LoadGate(1)
    _worked(gate, 5, 0.001)

    async def serve() -> tuple[float, float]:
        with gate.request():
            return await asyncio.to_thread(inside)

    def inside() -> tuple[float, float]:
        with gate.photos(7):
            return gate._queued, gate._photos

    assert asyncio.run(serve()) == (0, 7)
    assert (gate._queued, gate._photos) == (0, 0)


def test_a_request_that_fails_is_not_waited_for(busy: LoadGate) -> None:
    with pytest.raises(RuntimeError), busy.photos(500):
        raise RuntimeError
    assert busy._photos == 20


def test_threads_are_counted_rightly() -> None:
    gate = LoadGate(1)
    threads = [threading.Thread(target=_worked, args=(gate, 50, 0.0)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (gate._photos, gate._queued) == (0, 0)


def _ask(
    gate: LoadGate, answer: Response, headers: dict[str, str], path: str = "/invocations"
) -> tuple[int, dict[str, str], str]:
    """Through the guard to an app that gives this answer to what it got: (status, headers, body)."""

    async def app(request: Request) -> Response:
        assert await request.body() == b"{}"
        return answer

    guarded = Starlette(routes=[Route("/invocations", app, methods=["POST"]), Route("/ping", app, methods=["POST"])])
    guarded.add_middleware(HttpGuard, gate=gate)
    parts = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.request", "body": b"}"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return parts.pop(0) if parts else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    head = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": head, "query_string": b""}
    asyncio.run(guarded(scope, receive, send))
    got = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], got, b"".join(message.get("body", b"") for message in sent[1:]).decode()


JSON = {"content-type": "application/json"}


def test_a_full_server_says_when_to_come_again(busy: LoadGate) -> None:
    status, headers, body = _ask(busy, Response("{}"), JSON)
    assert (status, int(headers["retry-after"]) >= 1) == (503, True)
    assert json.loads(body)["error_code"] == "TEMPORARILY_UNAVAILABLE"
    assert "MAX_WAIT_SECONDS" in json.loads(body)["message"]
    assert _ask(busy, Response("well"), {}, "/ping")[2] == "well"


def test_a_503_of_the_model_has_a_retry_after_too() -> None:
    status, headers, body = _ask(LoadGate(1), JSONResponse({"message": "the log"}, 503), JSON)
    assert (status, headers["retry-after"], json.loads(body)) == (503, "1", {"message": "the log"})


def test_a_request_passes_as_it_is() -> None:
    assert _ask(LoadGate(1), Response("as it is", 200), JSON)[2] == "as it is"


def test_a_request_without_a_content_type_is_told_what_is_expected() -> None:
    status, _, body = _ask(LoadGate(1), Response(""), {})
    assert (status, "text/csv" in json.loads(body)["message"]) == (415, True)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ({"message": "too_many_rows: 5 rows."}, "too_many_rows: 5 rows."),
        (
            {"message": "Failed to predict data ' PATIENT'. \nError: Incompatible type for param explain"},
            "Incompatible type for param explain",
        ),
        ({"message": "Failed to predict data 'PATIENT'. \nError: Failed to enforce schema of data 'PATIENT'"}, EXPECTED),
        ({"message": "Not valid JSON. Error: 'x'\nInput: \nPATIENT"}, f"Not valid JSON. {EXPECTED}"),
        ({"message": "An unexpected error. PATIENT", "stack_trace": "PATIENT"}, EXPECTED),
    ],
)
def test_an_error_is_passed_on_without_the_request(error: dict[str, str], message: str) -> None:
    status, _, body = _ask(LoadGate(1), JSONResponse({"error_code": "BAD_REQUEST"} | error, 400), JSON)
    assert (status, json.loads(body)) == (400, {"error_code": "BAD_REQUEST", "message": message})


def test_an_error_that_is_no_json_is_replaced() -> None:
    assert json.loads(_ask(LoadGate(1), Response("PATIENT", 400), JSON)[2]) == {
        "error_code": "BAD_REQUEST",
        "message": EXPECTED,
    }
