"""The version that answered a photo is asked again, with its own code."""

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from eye_disease.common.errors import TrackingUnavailableError
from eye_disease.monitoring.replay import ReplayError, find_record, replay
from eye_disease.records.ingest import ingest
from eye_disease.records.storage import Storage
from eye_disease.records.store import find_stores
from tests.support.logs import MODEL, NOON, append, failed, minutes, record
from tests.support.servers import NAME, Served, free_port, read_records


@pytest.fixture
def tracked(registry: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry["MLFLOW_TRACKING_URI"])
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.usefixtures("tracked")
def test_the_same_photo_gets_the_same_answer(served: Served, retina: bytes, tmp_path: Path) -> None:
    (answer,) = served.classify(retina)
    storage = Storage(str(served.records))
    before = len(read_records(served.records))
    done = replay(storage, answer["prediction_id"], retina)
    assert done.same
    assert done.answer["confidence"] == pytest.approx(answer["confidence"], abs=1e-6)
    assert (done.record["model_name"], done.record["model_version"]) == (NAME, "1")
    assert len(read_records(served.records)) == before

    assert done.answer["predicted_class"] != "cataract"
    forged = dict(done.record) | {"predicted_class": "cataract", "prob_normal": 0.9}
    append(tmp_path / NAME / "1", forged, segment="20260301T12-p0.jsonl")
    other = replay(Storage(str(tmp_path)), answer["prediction_id"], retina)
    assert not other.same
    assert any(
        difference.startswith("predicted_class is") and "expected 'cataract'" in difference for difference in other.differences
    )
    assert any(difference.startswith("prob_normal is") for difference in other.differences)


@pytest.mark.usefixtures("tracked")
def test_a_photo_with_an_error_gets_its_error_again_and_a_version_may_be_gone(served: Served, tmp_path: Path) -> None:
    broken = b"not a photo at all"
    (answer,) = served.classify(broken)
    assert answer["error_code"] == "format_unsupported"
    storage = Storage(str(served.records))
    assert replay(storage, answer["prediction_id"], broken).same

    gone = find_record(storage, answer["prediction_id"]) | {"model_version": "99"}
    append(tmp_path / NAME / "99", gone, segment="20260301T12-p0.jsonl")
    with pytest.raises(ReplayError, match=f"models:/{NAME}/99 could not be fetched or run: .*99"):
        replay(Storage(str(tmp_path)), answer["prediction_id"], broken)


@pytest.fixture
def written(tmp_path: Path) -> list[dict]:
    """The first two taken in, the last still in a segment."""
    records = [record(0), failed(1, image_sha256=None), record(2, NOON + minutes(130), model_version="bundled")]
    append(tmp_path / MODEL / "1", *records[:2])
    append(tmp_path / MODEL / "1", records[2])
    for store in find_stores(Storage(str(tmp_path))):
        ingest(store, NOON + minutes(125))
    append(tmp_path / MODEL / "2", record(0, model_version="2"))
    return records


def test_a_record_is_found_wherever_it_is(tmp_path: Path, written: list[dict]) -> None:
    storage = Storage(str(tmp_path))
    for stored in written:
        result = find_record(storage, f" {stored['prediction_id'].upper()} ")
        assert (result["sequence"], result["brightness"]) == (stored["sequence"], stored["brightness"])
    torn = tmp_path / MODEL / "1" / "20260301T15-p7.jsonl"
    late = record(7, NOON + minutes(200))
    torn.write_text(json.dumps(late)[:-1] + "\n" + json.dumps(late) + "\n")
    assert find_record(storage, late["prediction_id"])["sequence"] == 7


def test_a_canary_is_found_too(tmp_path: Path) -> None:
    probe = record(0, canary=True)
    append(tmp_path / MODEL / "1", probe)
    (store,) = find_stores(Storage(str(tmp_path)))
    ingest(store, NOON + minutes(300))
    assert find_record(Storage(str(tmp_path)), probe["prediction_id"])["canary"] is True


@pytest.mark.parametrize("wrong", ["17", "019ca938-2e80-7000-8000-000000000000"])
def test_an_unknown_id(tmp_path: Path, written: list[dict], wrong: str) -> None:
    with pytest.raises(ReplayError, match=r"Expected the UUID that the answer holds|No record of prediction .* Check the id"):
        replay(Storage(str(tmp_path)), wrong, b"photo")


def test_another_photo(tmp_path: Path, written: list[dict]) -> None:
    with pytest.raises(ReplayError, match=r"This is another photo: its SHA-256 is .* byte for byte"):
        replay(Storage(str(tmp_path)), written[0]["prediction_id"], b"photo")


def test_a_request_that_held_no_photo(tmp_path: Path, written: list[dict]) -> None:
    with pytest.raises(ReplayError, match="held no image file"):
        replay(Storage(str(tmp_path)), written[1]["prediction_id"], b"photo")


def _photo_of(tmp_path: Path, version: str) -> tuple[str, bytes]:
    """A record of a real file's hash, answered by a version."""
    import hashlib

    data = io.BytesIO()
    Image.new("RGB", (64, 64)).save(data, "PNG")
    stored = record(0, model_version=version, image_sha256=hashlib.sha256(data.getvalue()).hexdigest())
    append(tmp_path / MODEL / version, stored)
    return stored["prediction_id"], data.getvalue()


@pytest.mark.parametrize("version", ["bundled", "unregistered"])
def test_a_version_that_is_in_no_registry(tmp_path: Path, version: str) -> None:
    with pytest.raises(ReplayError, match=f"in no registry \\({version}\\)"):
        replay(Storage(str(tmp_path)), *_photo_of(tmp_path, version))


def test_a_tracking_server_that_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingUnavailableError, match=f"Fetching {MODEL} version 1 failed: MLflow at .* does not answer"):
        replay(Storage(str(tmp_path)), *_photo_of(tmp_path, "1"))


def test_base64_is_not_the_file(tmp_path: Path) -> None:
    number, photo = _photo_of(tmp_path, "1")
    with pytest.raises(ReplayError, match="another photo"):
        replay(Storage(str(tmp_path)), number, base64.b64encode(photo))
