"""Results wait on disk while MLflow is down, and go out once, in order."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from eye_disease.common.errors import TrackingRefusedError, TrackingUnavailableError
from eye_disease.monitoring.metrics import Point, metric_name, prediction_points, window_points
from eye_disease.monitoring.spool import Batch, Spool, Waiting
from eye_disease.records.lines import parse
from tests.support.logs import CLASSES, NOON, failed, minutes, record

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")
POINTS = [Point("m", float(n), 1000 + n, n) for n in range(5)]


class Written:
    """A writer that keeps what it gets, or raises."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.batches: list[tuple[str, list[Point], dict[str, bytes]]] = []

    def write(self, waiting: Waiting, deadline: float) -> None:
        if self.errors and (error := self.errors.pop(0)):
            raise error
        points = [point for chunk in waiting.points(0, 2) for point in chunk]
        artifacts = {path.name: path.read_bytes() for path in waiting.artifacts.glob("*")}
        self.batches.append((waiting.batch.id, points, artifacts))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def _batch(number: int, **changes: Any) -> Batch:
    return Batch(**{"id": f"{number:04d}", "model": "eye", "version": "1"} | changes)


def test_batches_go_out_once_in_order(spool: Spool, tmp_path: Path) -> None:
    writer = Written()
    for number in (2, 1):
        spool.put(_batch(number), POINTS, {"report.html": b"<html>"})
    assert spool.send(writer, 60) == 0
    assert [(name, points) for name, points, _ in writer.batches] == [("0001", POINTS), ("0002", POINTS)]
    assert spool.send(writer, 60) == 0
    assert len(writer.batches) == 2
    assert list((tmp_path / "spool").iterdir()) == []


def test_an_empty_spool(spool: Spool) -> None:
    assert spool.waiting() == []
    assert spool.send(Written(), 60) == 0


def test_a_server_that_is_down_is_asked_once_and_all_waits(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        spool.put(_batch(number), POINTS, {})
    writer = Written(None, TrackingUnavailableError("refused the connection"))
    assert spool.send(writer, 60) == 2
    assert "2 result batches are queued for MLflow" in caplog.text
    assert "refused the connection" in caplog.text
    assert spool.send(writer, 60) == 0
    assert [name for name, _, _ in writer.batches] == ["0000", "0001", "0002"]


def test_what_the_server_refuses_is_set_aside_and_the_rest_goes_out(
    spool: Spool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2):
        spool.put(_batch(number), POINTS, {})
    writer = Written(TrackingRefusedError("no such thing"))
    with caplog.at_level(logging.ERROR):
        assert spool.send(writer, 60) == 0
    assert [name for name, _, _ in writer.batches] == ["0001"]
    assert len(list((tmp_path / "spool" / "refused").glob("0000-*/metrics.ndjson"))) == 1
    assert "no such thing" in caplog.text
    assert spool.waiting() == []


def test_putting_a_batch_again_replaces_it(spool: Spool) -> None:
    spool.put(_batch(1), POINTS, {"a": b"1", "b": b"1"})
    spool.put(_batch(1), POINTS[:2], {"a": b"2"})
    writer = Written()
    spool.send(writer, 60)
    assert writer.batches == [("0001", POINTS[:2], {"a": b"2"})]


def test_a_report_that_a_newer_one_replaces_is_not_kept(spool: Spool) -> None:
    spool.put(_batch(1), POINTS, {"report.html": b"old", "other.png": b"x"})
    spool.put(_batch(1, id="0001b", version="2"), POINTS, {"report.html": b"of another version"})
    spool.put(_batch(2), POINTS, {"report.html": b"new"})
    writer = Written()
    spool.send(writer, 60)
    assert [artifacts for _, _, artifacts in writer.batches] == [
        {"other.png": b"x"},
        {"report.html": b"of another version"},
        {"report.html": b"new"},
    ]


def test_a_put_that_was_cut_short_is_no_batch(spool: Spool, tmp_path: Path) -> None:
    def breaks() -> Any:
        yield POINTS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spool.put(_batch(1), breaks(), {})
    assert spool.waiting() == []
    spool.put(_batch(1), POINTS, {})
    assert [batch.batch.id for batch in spool.waiting()] == ["0001"]
    assert len(list((tmp_path / "spool").iterdir())) == 1


def test_a_removal_that_was_cut_short_sends_nothing_again(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.put(_batch(1), POINTS, {})
    writer = Written()

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("eye_disease.monitoring.spool.shutil.rmtree", killed)
        spool.send(writer, 60)
    assert spool.send(writer, 60) == 0
    assert len(writer.batches) == 1


def test_a_value_that_is_not_finite_is_refused(spool: Spool) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        spool.put(_batch(1), [Point("m", float("nan"), 0, 0)], {})


def test_the_key_is_that_of_id_and_content(spool: Spool) -> None:
    keys = set()
    for batch, points in ((_batch(1), POINTS), (_batch(2), POINTS), (_batch(3), POINTS[1:])):
        spool.put(batch, points, {})
        keys.add(spool.waiting()[-1].key.rpartition("-")[2])
    assert len(keys) == 2
    assert spool.waiting()[0].key.startswith("0001-")


def test_points_are_read_in_chunks_from_any_place(spool: Spool) -> None:
    spool.put(_batch(1), POINTS, {})
    (waiting,) = spool.waiting()
    assert list(waiting.points(0, 2)) == [POINTS[:2], POINTS[2:4], POINTS[4:]]
    assert list(waiting.points(3, 2)) == [POINTS[3:]]
    assert list(waiting.points(5, 2)) == []


def test_each_record_is_a_step_with_its_own_time() -> None:
    lines = [record(0, NOON), failed(1), record(2, NOON + minutes(1), predicted_class="normal")]
    table, _ = parse("".join(json.dumps(line) + "\n" for line in lines).encode(), CLASSES)
    points = list(prediction_points(table, CLASSES, range(10, 13)))
    by_name = {
        name: [(point.step, point.value) for point in points if point.name == name] for name in {point.name for point in points}
    }
    assert by_name == {
        "prediction_count": [(10, 11), (11, 12), (12, 13)],
        "prediction_confidence": [(10, 0.7), (12, 0.7)],
        "prediction_inference_time_ms": [(10, 12.5), (12, 12.5)],
        "prob_cataract": [(10, 0.7), (12, 0.7)],
        "prob_diabetic_retinopathy": [(10, pytest.approx(0.1)), (12, pytest.approx(0.1))],
        "prob_glaucoma": [(10, pytest.approx(0.1)), (12, pytest.approx(0.1))],
        "prob_normal": [(10, pytest.approx(0.1)), (12, pytest.approx(0.1))],
    }
    start = int(NOON.timestamp() * 1000)
    assert {point.step: point.timestamp_ms for point in points} == {10: start, 11: start, 12: start + 60_000}


def test_the_figures_of_a_window() -> None:
    values = {"session_avg_confidence": 0.8, "drift_detected": True, "psi": float("inf"), "health_check_response_time_ms": None}
    assert window_points(values, 5, 7) == [Point("session_avg_confidence", 0.8, 5, 7), Point("drift_detected", 1.0, 5, 7)]


def test_a_metric_name_is_one_that_mlflow_takes() -> None:
    assert metric_name("prob_AMD (wet), 50%+") == "prob_AMD _wet__ 50__"
    assert metric_name("prob_catarata_ã") == "prob_catarata_ã"
    assert len(metric_name("x" * 999)) == 250
