"""Prometheus metrics of a log, scraped over HTTP and read with Prometheus' own parser."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from eye_disease.monitoring.exporter import STATES, start_exporter
from eye_disease.monitoring.version_state import Memories, PastWindow, VersionMemory
from eye_disease.records.ingest import ingest
from eye_disease.records.recent import LogTail
from eye_disease.records.storage import Storage
from eye_disease.records.store import find_stores
from eye_disease.verdict.verdict import Status
from tests.support.logs import MODEL, NOON, append, failed, minutes, record
from tests.support.servers import free_port

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log" / MODEL / "1"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    stop = start_exporter(port, Storage(str(tmp_path / "log")), Memories(tmp_path / "state").statuses)
    yield f"http://127.0.0.1:{port}/metrics"
    stop()


def _scrape(url: str) -> Samples:
    with urllib.request.urlopen(url) as response:
        families = text_string_to_metric_families(response.read().decode())
        samples = [sample for family in families for sample in family.samples]
    return {
        (
            sample.name,
            tuple(sorted((name, value) for name, value in sample.labels.items() if name not in ("model", "version"))),
        ): sample.value
        for sample in samples
    }


def test_an_empty_log_has_no_samples(url: str) -> None:
    assert _scrape(url) == {}


def test_what_was_answered_is_counted(url: str, folder: Path) -> None:
    append(folder, record(0), record(1), record(2, predicted_class="normal", decision="review"), failed(3))
    append(folder, record(0, process="p1", lost_records=4), failed(1, "image_empty", process_id="p1"))
    metrics = _scrape(url)
    assert metrics["eye_predictions_total", (("class", "cataract"), ("decision", "report"))] == 3
    assert metrics["eye_predictions_total", (("class", "normal"), ("decision", "review"))] == 1
    assert metrics["eye_errors_total", (("code", "image_corrupt"),)] == 1
    assert metrics["eye_errors_total", (("code", "image_empty"),)] == 1
    assert metrics["eye_lost_records_total", ()] == 4


def test_histograms_count_up_to_their_bounds(url: str, folder: Path) -> None:
    append(folder, *(record(n, confidence=value) for n, value in enumerate((0.35, 0.7, 0.7, 1.0))))
    append(folder, record(4, inference_time_ms=60_000.0))
    metrics = _scrape(url)
    buckets = {labels[0][1]: value for (name, labels), value in metrics.items() if name == "eye_confidence_bucket"}
    assert (buckets["0.3"], buckets["0.4"], buckets["0.7"], buckets["1.0"], buckets["+Inf"]) == (0, 1, 4, 5, 5)
    assert metrics["eye_confidence_count", ()] == 5
    times = {labels[0][1]: value for (name, labels), value in metrics.items() if name == "eye_inference_time_seconds_bucket"}
    assert (times["0.01"], times["0.025"], times["10.0"], times["+Inf"]) == (0, 4, 4, 5)
    assert metrics["eye_inference_time_seconds_sum", ()] == pytest.approx(60.05)


def test_counters_go_on_as_the_log_grows_and_is_taken_in(url: str, folder: Path, tmp_path: Path) -> None:
    key = ("eye_predictions_total", (("class", "cataract"), ("decision", "report")))
    segment = append(folder, record(0), record(1))
    assert _scrape(url)[key] == 2
    half = json.dumps(record(2)).encode()
    with segment.open("ab") as file:
        file.write(half[:50])
    assert _scrape(url)[key] == 2
    with segment.open("ab") as file:
        file.write(half[50:] + b"\n")
    assert _scrape(url)[key] == 3
    (store,) = find_stores(Storage(str(tmp_path / "log")))
    ingest(store, NOON + minutes(180))
    assert not segment.exists()
    assert _scrape(url)[key] == 3
    append(folder, record(3))
    assert _scrape(url)[key] == 4


def test_canaries_and_lines_that_are_no_records_do_not_count(url: str, folder: Path) -> None:
    segment = append(folder, record(0, canary=True, lost_records=2), record(1, schema_version=99), record(2))
    with segment.open("ab") as file:
        file.write(b'junk\n[]\n{"schema_version": 1}\n')
    append(folder, record(3, timestamp="2026-03-01T12:00:00"))
    metrics = _scrape(url)
    assert metrics["eye_predictions_total", (("class", "cataract"), ("decision", "report"))] == 1
    assert metrics["eye_unreadable_lines_total", ()] == 5
    assert metrics["eye_lost_records_total", ()] == 2


def _judged(status: Status) -> VersionMemory:
    return VersionMemory(
        windows=1, judged=NOON, history=(PastWindow(1, NOON, status, 50, None, {"confidence ks": (0.1, 0.2)}),)
    )


def test_the_state_of_each_version(url: str, tmp_path: Path) -> None:
    memories = Memories(tmp_path / "state")
    memories.save(MODEL, "1", _judged("drift"))
    memories.save(MODEL, "2", VersionMemory())
    metrics = _scrape(url)
    assert {state: metrics["eye_drift_state", (("state", state),)] for state in STATES} == {
        "ok": 0,
        "warning": 0,
        "drift": 1,
        "insufficient_data": 0,
    }
    memories.save(MODEL, "1", _judged("ok"))
    (tmp_path / "state" / "versions" / MODEL / "3.json").write_text("damaged")
    assert _scrape(url)["eye_drift_state", (("state", "ok"),)] == 1


def test_a_taken_port_is_an_error(tmp_path: Path, url: str) -> None:
    with pytest.raises(OSError, match="in use"):
        start_exporter(int(url.split(":")[2].split("/")[0]), Storage(str(tmp_path)), dict)


def test_a_segment_removed_between_listing_and_reading(folder: Path, tmp_path: Path) -> None:
    class Late(Storage):
        def files(self, path: str, recursive: bool = False) -> dict[str, int]:
            result = super().files(path, recursive)
            for name in result:
                (folder / name).unlink()
            return result

    append(folder, record(0))
    tail = LogTail(Late(str(tmp_path / "log")))
    tail.poll()
    assert sum(tail.numbers[MODEL, "1"].predictions.values()) == 0


def test_a_log_on_s3(s3_bucket: str) -> None:
    storage = Storage(s3_bucket)
    storage.write(f"{MODEL}/1/20260301T12-p0.jsonl", json.dumps(record(0)).encode() + b"\n")
    tail = LogTail(storage)
    tail.poll()
    tail.poll()
    assert sum(tail.numbers[MODEL, "1"].predictions.values()) == 1
