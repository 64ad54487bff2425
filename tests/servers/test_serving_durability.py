"""`kill -9` in mid-traffic: whatever a client has been answered is in the inference log."""

import os
import signal
import threading
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.support.servers import NAME, read_records, serve_model

CLIENTS = 6
ANSWERS_BEFORE_KILL = 150


@pytest.mark.parametrize("workers", ["1", "2"])
def test_kill_9_loses_no_answered_prediction(registry: dict[str, str], tmp_path: Path, retina: bytes, workers: str) -> None:
    answered: list[str] = []
    enough = threading.Event()

    with serve_model(f"models:/{NAME}/Production", tmp_path, registry, "--workers", workers) as server:

        def client() -> None:
            while True:
                try:
                    answers = server.classify(retina, b"no image")
                except (OSError, HTTPException):  # the server is dead: the end of this client
                    return
                answered.extend(answer["prediction_id"] for answer in answers)
                if len(answered) >= ANSWERS_BEFORE_KILL:
                    enough.set()

        clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
        for thread in clients:
            thread.start()
        assert enough.wait(timeout=120)
        os.killpg(server.process.pid, signal.SIGKILL)
        for thread in clients:
            thread.join(timeout=60)

    assert len(answered) >= ANSWERS_BEFORE_KILL
    recorded = {record["prediction_id"] for record in read_records(server.records)}
    assert set(answered) <= recorded
