"""Many clients at once: everybody gets the answer to their own photo, and every answer is on record once."""

import base64
import hashlib
import io
import json
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from model_code.classifier import Classifier
from model_code.settings import ServingSettings
from tests.support.servers import PROJECT, Served, read_records

REQUESTS = 200
CLIENTS = 24


def _distinguishable(number: int) -> bytes:
    """The canary photo, turned and cropped so that no two are alike."""
    with Image.open(PROJECT / "samples" / "canary.jpg") as photo:
        changed = photo.rotate(number * 1.7).crop((number % 7, number % 11, 400 - number % 13, 400 - number % 17))
    buffer = io.BytesIO()
    changed.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    made = [_distinguishable(number) for number in range(REQUESTS)]
    assert len(set(made)) == REQUESTS
    return made


@pytest.fixture(scope="module")
def expected(photos: list[bytes]) -> list[dict[str, Any]]:
    local = Classifier(PROJECT / "models", "1", ServingSettings.from_env({}))
    answers = [local.classify(photo).answer for photo in photos]
    assert len({round(answer["prob_normal"], 9) for answer in answers}) > 0.95 * REQUESTS
    return answers


def test_concurrent_clients_get_their_own_answers(served: Served, photos: list[bytes], expected: list[dict[str, Any]]) -> None:
    def ask(number: int) -> dict[str, Any]:
        row = {"image": base64.b64encode(photos[number]).decode(), "image_id": f"photo-{number}"}
        status, answer = served.post(json.dumps({"dataframe_records": [row]}).encode())
        assert status == 200
        return answer["predictions"][0]

    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(clients.map(ask, range(REQUESTS)))

    assert [answer["image_id"] for answer in answers] == [f"photo-{number}" for number in range(REQUESTS)]
    for name in ("prob_cataract", "prob_glaucoma", "prob_normal", "ood_score"):
        assert [answer[name] for answer in answers] == pytest.approx([one[name] for one in expected], abs=1e-6)

    records = read_records(served.records)
    by_id = {record["prediction_id"]: record for record in records}
    assert len(by_id) == len(records)
    for photo, answer in zip(photos, answers, strict=True):
        assert by_id[answer["prediction_id"]]["image_sha256"] == hashlib.sha256(photo).hexdigest()


def test_rows_of_one_request_keep_their_order(served: Served, photos: list[bytes], expected: list[dict[str, Any]]) -> None:
    answers = served.classify(*photos[:60])
    assert [one["prob_normal"] for one in answers] == pytest.approx([one["prob_normal"] for one in expected[:60]], abs=1e-6)


def test_both_workers_answer_and_count_without_gaps(served: Served, photos: list[bytes]) -> None:
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(served.classify, photos[:100]))
    sequences = defaultdict(list)
    for record in read_records(served.records):
        sequences[record["process_id"]].append(record["sequence"])
    assert len(sequences) == 2
    for numbers in sequences.values():
        assert sorted(numbers) == list(range(len(numbers)))
