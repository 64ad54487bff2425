"""A server with more photos waiting than it can answer says so at once."""

import base64
import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.support.photos import encode, fundus
from tests.support.servers import NAME, Served, serve_model


@pytest.fixture(scope="module")
def small_server(registry: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One worker that lets nobody wait longer than two seconds."""
    env = registry | {"MAX_WAIT_SECONDS": "2"}
    with serve_model(f"models:/{NAME}/Production", tmp_path_factory.mktemp("small"), env) as server:
        yield server


def _request(rows: int) -> bytes:
    text = base64.b64encode(encode(fundus(), "JPEG")).decode()
    return json.dumps({"instances": [{"image": text}] * rows}).encode()


def _ask(served: Served, body: bytes) -> tuple[int, str | None, str, float]:
    """(status, Retry-After, body, seconds)."""
    connection = http.client.HTTPConnection("127.0.0.1", int(served.url.rpartition(":")[2]), timeout=120)
    start = time.monotonic()
    connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, response.headers["Retry-After"], text, time.monotonic() - start


def test_a_loaded_server_refuses_at_once_and_answers_all_that_it_took(small_server: Served) -> None:
    body = _request(rows=20)
    assert _ask(small_server, body)[0] == 200
    with ThreadPoolExecutor(40) as executor:
        answers = list(executor.map(lambda _: _ask(small_server, body), range(40)))
    refused = [answer for answer in answers if answer[0] == 503]
    taken = [answer for answer in answers if answer[0] == 200]
    assert {answer[0] for answer in answers} == {200, 503}
    assert all(int(retry) >= 1 for _, retry, _, _ in refused)
    assert all("MAX_WAIT_SECONDS" in json.loads(text)["message"] for _, _, text, _ in refused)
    assert all(len(json.loads(text)["predictions"]) == 20 for _, _, text, _ in taken)
    assert np.median([seconds for *_, seconds in refused]) < np.median([seconds for *_, seconds in taken])
    assert _ask(small_server, _request(rows=1))[0] == 200


def test_a_server_at_rest_refuses_nobody(small_server: Served) -> None:
    photo = _request(rows=1)
    assert {_ask(small_server, photo)[0] for _ in range(20)} == {200}


def test_ping_is_answered_whatever_the_load(small_server: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(small_server.url.rpartition(":")[2]), timeout=10)
    body = _request(rows=20)
    with ThreadPoolExecutor(8) as executor:
        asked = [executor.submit(_ask, small_server, body) for _ in range(8)]
        connection.request("GET", "/ping")
        assert connection.getresponse().status == 200
        assert {one.result()[0] for one in asked} <= {200, 503}
    connection.close()
