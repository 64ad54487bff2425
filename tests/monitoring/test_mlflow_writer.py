"""What the drift job writes stands in a real tracking server exactly once, whatever happens to the connection."""

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.protos.service_pb2 import LogBatch
from mlflow.utils.proto_json_utils import message_to_json
from mlflow.utils.validation import MAX_BATCH_LOG_REQUEST_SIZE

from eye_disease.common.mlflow_client import METRICS_PER_REQUEST
from eye_disease.monitoring import mlflow_writer
from eye_disease.monitoring.metrics import Point
from eye_disease.monitoring.mlflow_writer import MlflowWriter
from eye_disease.monitoring.spool import Batch, Spool
from tests.support.faults import Proxy, faulty
from tests.support.servers import Served, free_port

EXPERIMENT = "eye-monitoring"
MODEL = "eye"
POINTS = [Point(name, n / 7, 1_772_366_400_000 + n, n) for n in range(6) for name in ("prob_a", "prediction_confidence")]


@pytest.fixture
def proxy(tracking: Served) -> Iterator[Proxy]:
    with faulty(tracking.url) as made:
        yield made


@pytest.fixture
def client(tracking: Served) -> MlflowClient:
    """Straight to the server."""
    return MlflowClient(tracking.url)


@pytest.fixture
def version() -> str:
    """A version of its own, so that each test has a run of its own; none of a registry."""
    return f"v{uuid4().hex[:8]}"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_writer, "_CHUNK", 3)


def _writer(url: str, timeout_seconds: int = 20) -> MlflowWriter:
    return MlflowWriter(MlflowClient(url), EXPERIMENT, timeout_seconds)


def _batch(version: str, number: int = 1, **changes: Any) -> Batch:
    return Batch(**{"id": f"{number:04d}", "model": MODEL, "version": version} | changes)


def _held(client: MlflowClient, version: str) -> Counter[Point]:
    run_id = _writer(client.tracking_uri).run_id(MODEL, version)
    names = client.get_run(run_id).data.metrics
    points = [point for name in names for point in client.get_metric_history(run_id, name)]
    return Counter(Point(point.key, point.value, point.timestamp, point.step) for point in points)


def test_everything_of_a_batch_arrives(client: MlflowClient, spool: Spool, version: str) -> None:
    batch = _batch(version, run_tags={"drift_status": "drift"}, note="Darker photos. Check the camera.")
    spool.put(batch, POINTS, {"report.html": b"<html>", "plot.png": b"png"})
    writer = _writer(client.tracking_uri)
    assert spool.send(writer, 60) == 0
    assert _held(client, version) == Counter(POINTS)
    run = client.get_run(writer.run_id(MODEL, version))
    assert run.info.run_name == f"monitoring {MODEL} {version}"
    assert run.info.status == "FINISHED"
    assert run.data.tags["drift_status"] == "drift"
    assert run.data.tags["mlflow.note.content"] == "Darker photos. Check the camera."
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"report.html", "plot.png"}
    assert run.data.metrics["prob_a"] == POINTS[-1].value
    assert run.info.experiment_id == client.get_experiment_by_name(EXPERIMENT).experiment_id


def test_later_batches_go_to_the_same_run(client: MlflowClient, spool: Spool, version: str) -> None:
    later = [replace_step(point) for point in POINTS]
    spool.put(_batch(version, 1, note="first"), POINTS, {})
    spool.put(_batch(version, 2), later, {"report.html": b"2"})
    spool.send(_writer(client.tracking_uri), 60)
    spool.put(_batch(version, 3), [], {})
    spool.send(_writer(client.tracking_uri), 60)
    assert _held(client, version) == Counter(POINTS + later)
    run_id = _writer(client.tracking_uri).run_id(MODEL, version)
    assert client.get_run(run_id).data.tags["mlflow.note.content"] == "first"


def replace_step(point: Point) -> Point:
    return point._replace(step=point.step + 100, timestamp_ms=point.timestamp_ms + 100)


def test_a_large_batch_is_sent_in_chunks(proxy: Proxy, client: MlflowClient, spool: Spool, version: str) -> None:
    spool.put(_batch(version), POINTS, {})
    spool.send(_writer(proxy.url), 60)
    assert sum("log-batch" in call for call in proxy.calls) == len(POINTS) / 3
    assert _held(client, version) == Counter(POINTS)


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_no_point_is_lost_when_the_server_fails_between_two_requests(
    proxy: Proxy, client: MlflowClient, spool: Spool, version: str, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """MLflow's client makes two requests of 1,000 metrics and a tag: whatever it is given must be one."""
    monkeypatch.setattr(mlflow_writer, "_CHUNK", METRICS_PER_REQUEST)
    points = [Point("p" * 250, float(n), 1_700_000_000_000 + n, n) for n in range(2_100)]
    spool.put(_batch(version), points, {})
    batches = 0

    def fault(path: str, forward: Callable[[], Any]) -> Any:
        nonlocal batches
        batches += "log-batch" in path
        if batches < 2:
            return forward()
        if lost == "answer":
            forward()
        return None

    proxy.fault = fault
    assert spool.send(_writer(proxy.url), 60) == 1
    proxy.fault = lambda path, forward: forward()
    assert spool.send(_writer(proxy.url), 60) == 0
    assert _held(client, version) == Counter(points)


def test_a_request_holds_what_the_client_makes_one_request_of(
    client: MlflowClient, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest chunk, of the longest names, with a tag: through the real client into a real server."""
    run_id = _writer(client.tracking_uri).run_id(MODEL, version)
    sizes, log_batch = [], client._tracking_client.store.log_batch

    def counted(run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]) -> None:
        sizes.append(len(metrics))
        request = LogBatch(
            run_id=run_id, metrics=[metric.to_proto() for metric in metrics], tags=[tag.to_proto() for tag in tags]
        )
        assert len(message_to_json(request)) < MAX_BATCH_LOG_REQUEST_SIZE
        log_batch(run_id, metrics, params, tags)

    monkeypatch.setattr(client._tracking_client.store, "log_batch", counted)
    metrics = [Metric("眼" * 250, n / 7, 1_700_000_000_000 + n, 10_000_000 + n) for n in range(METRICS_PER_REQUEST)]
    client.log_batch(run_id, metrics, tags=[RunTag("monitoring.sent", "x" * 100)])
    assert sizes == [METRICS_PER_REQUEST]


def test_a_server_that_goes_away_at_any_call(proxy: Proxy, client: MlflowClient, tmp_path: Path, version: str) -> None:
    """From its answer to the n-th call on it is gone; the next run finds it back."""
    points, last = POINTS[:6], 0
    while last < 30:
        spool, one_version = Spool(tmp_path / str(last)), f"{version}-{last}"
        spool.put(_batch(one_version), points, {})
        proxy.calls.clear()

        def fault(path: str, forward: Callable[[], Any], last: int = last) -> Any:
            answer = forward() if len(proxy.calls) <= last else None
            return answer if len(proxy.calls) < last else (500, b"{}")

        proxy.fault = fault
        waits = spool.send(_writer(proxy.url), 60)
        proxy.fault = lambda path, forward: forward()
        assert spool.send(_writer(proxy.url), 60) == 0
        assert _held(client, one_version) == Counter(points)
        if not waits:
            break
        last += 1
    assert 6 < last < 30
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    assert len(client.search_runs([experiment], f"tags.`monitoring.version` LIKE '{version}-%'")) == last + 1


def test_a_server_that_hangs_is_left_after_the_timeout(proxy: Proxy, client: MlflowClient, spool: Spool, version: str) -> None:
    released = threading.Event()

    def fault(path: str, forward: Callable[[], Any]) -> Any:
        if "log-batch" in path:
            released.wait(30)
        return forward()

    proxy.fault = fault
    spool.put(_batch(version), POINTS, {})
    assert spool.send(_writer(proxy.url, timeout_seconds=1), 60) == 1
    released.set()
    assert spool.send(_writer(proxy.url), 60) == 0
    assert _held(client, version) == Counter(POINTS)


def test_a_slow_server_gets_a_part_in_each_run(
    proxy: Proxy, client: MlflowClient, spool: Spool, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    spool.put(_batch(version), POINTS, {})
    waits = [spool.send(_writer(proxy.url), budget_seconds=0) for _ in range(5)]
    assert waits == [1, 1, 1, 1, 0]
    assert "timed out after sending 3 metrics of batch 0001" in caplog.text
    assert sum("log-batch" in call for call in proxy.calls) == len(POINTS) / 3
    assert _held(client, version) == Counter(POINTS)


def test_no_server_at_all(spool: Spool, version: str, caplog: pytest.LogCaptureFixture) -> None:
    spool.put(_batch(version), POINTS, {})
    assert spool.send(_writer(f"http://127.0.0.1:{free_port()}"), 60) == 1
    assert "result batches are queued for MLflow" in caplog.text


def test_a_port_that_accepts_and_says_nothing(spool: Spool, version: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        spool.put(_batch(version), POINTS, {})
        assert spool.send(_writer(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=1), 60) == 1


def test_a_batch_that_the_server_will_never_take(client: MlflowClient, spool: Spool, version: str, tmp_path: Path) -> None:
    spool.put(_batch(version, 1), [Point("not!allowed", 1.0, 1, 1)], {})
    spool.put(_batch(version, 2), POINTS, {})
    assert spool.send(_writer(client.tracking_uri), 60) == 0
    assert len(list((tmp_path / "refused").glob("0001-*/batch.json"))) == 1
    assert _held(client, version) == Counter(POINTS)


def test_another_batch_of_the_same_id_is_not_taken_for_sent(client: MlflowClient, spool: Spool, version: str) -> None:
    """As after the loss of the job's own state, when it counts its runs from the start again."""
    other = [replace_step(point) for point in POINTS]
    for points in (POINTS, other):
        spool.put(_batch(version), points, {})
        spool.send(_writer(client.tracking_uri), 60)
    assert _held(client, version) == Counter(POINTS + other)


def test_a_run_is_found_again_and_two_jobs_agree_on_one(
    client: MlflowClient, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, other = _writer(client.tracking_uri), _writer(client.tracking_uri)
    result: list[str] = []
    create = MlflowClient.create_run

    def create_late(self: MlflowClient, *arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(MlflowClient, "create_run", create)
        result.append(other.run_id(MODEL, version))
        return create(self, *arguments, **options)

    monkeypatch.setattr(MlflowClient, "create_run", create_late)
    assert writer.run_id(MODEL, version) == result[0] == other.run_id(MODEL, version)
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    assert len(client.search_runs([experiment], f"tags.`monitoring.version` = '{version}'")) == 1


def test_results_for_a_deleted_experiment_wait_until_it_is_restored(
    client: MlflowClient, spool: Spool, version: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"deleted-{version}"
    writer = MlflowWriter(client, name, 20)
    spool.put(_batch(version, 1), POINTS, {})
    spool.send(writer, 60)
    experiment = client.get_experiment_by_name(name).experiment_id
    client.delete_experiment(experiment)
    later = [replace_step(point) for point in POINTS]
    spool.put(_batch(version, 2), later, {"report.html": b"<html>"})
    assert spool.send(writer, 60) == 1
    assert f"Restore it: mlflow experiments restore --experiment-id {experiment}" in caplog.text
    assert writer.run_page(MODEL, version) is None
    client.restore_experiment(experiment)
    assert spool.send(writer, 60) == 0
    assert not (tmp_path / "refused").exists()
    run_id = writer.run_id(MODEL, version)
    stored = [metric.step for name in ("prob_a", "prediction_confidence") for metric in client.get_metric_history(run_id, name)]
    assert sorted(stored) == sorted(point.step for point in POINTS + later)


@pytest.mark.parametrize("what", ["run", "experiment"])
def test_what_is_deleted_while_results_go_out_costs_none_of_them(
    proxy: Proxy, client: MlflowClient, spool: Spool, version: str, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    name = f"deleted-{version}"

    def fault(path: str, forward: Callable[[], Any]) -> Any:
        if sum("log-batch" in call for call in proxy.calls) == 2 and "log-batch" in path:
            run_id = MlflowWriter(client, name, 20).run_id(MODEL, version)
            experiment = client.get_experiment_by_name(name).experiment_id
            client.delete_run(run_id) if what == "run" else client.delete_experiment(experiment)
        return forward()

    proxy.fault = fault
    spool.put(_batch(version), POINTS, {})
    assert spool.send(MlflowWriter(MlflowClient(proxy.url), name, 20), 60) == 1
    assert f"mlflow {what}s restore --{what}" in caplog.text
    if what == "experiment":
        client.restore_experiment(client.get_experiment_by_name(name).experiment_id)
    writer = MlflowWriter(client, name, 20)
    assert spool.send(writer, 60) == 0
    history = client.get_metric_history(writer.run_id(MODEL, version), "prob_a")
    assert sorted(past.step for past in history) == [0, 1, 2, 3, 4, 5]


def test_a_model_whose_name_holds_quotes_has_its_run(client: MlflowClient, spool: Spool, version: str) -> None:
    writer = _writer(client.tracking_uri)
    for model in ("a'b", 'a`b"c', "a' or tags.x = 'y"):
        spool.put(_batch(version, 1, model=model), POINTS, {})
        assert spool.send(writer, 60) == 0
        run = client.get_run(writer.run_id(model, version))
        assert (run.data.tags["monitoring.model"], run.data.metrics["prob_a"]) == (model, POINTS[-1].value)


def test_no_password_of_the_server_is_in_the_address_or_in_the_log(
    tracking: Served, spool: Spool, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    address = tracking.url.removeprefix("http://")
    page = _writer(f"http://eve:hunter2@{address}").run_page(MODEL, version)
    assert page is not None
    assert page.startswith(f"http://{address}/#/experiments/")
    spool.put(_batch(version), POINTS, {})
    assert spool.send(_writer(f"http://eve:hunter2@127.0.0.1:{free_port()}"), 60) == 1
    assert "result batches are queued for MLflow" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_deleted_run_is_made_anew(client: MlflowClient, spool: Spool, version: str, caplog: pytest.LogCaptureFixture) -> None:
    writer = _writer(client.tracking_uri)
    first = writer.run_id(MODEL, version)
    client.delete_run(first)
    spool.put(_batch(version), POINTS, {})
    assert spool.send(writer, 60) == 0
    assert writer.run_id(MODEL, version) != first
    assert f"mlflow runs restore --run-id {first}" in caplog.text
    assert _held(client, version) == Counter(POINTS)


def test_tags_of_a_registered_version(proxy: Proxy, client: MlflowClient, spool: Spool) -> None:
    name = f"eye-{uuid4().hex[:8]}"
    client.create_registered_model(name)
    run = client.get_run(_writer(client.tracking_uri).run_id(name, "1"))
    client.create_model_version(name, f"{run.info.artifact_uri}/model", run_id=run.info.run_id)
    tags = {"drift_status": "ok", "drift_checked_at": "2026-03-01T12:00:00Z"}
    for number, checked in enumerate(("12", "13", "14")):
        status = {"drift_status": "drift" if number == 2 else "ok", "drift_checked_at": checked}
        spool.put(_batch("1", number, model=name, version_tags=tags | status), [], {})
        spool.send(_writer(proxy.url), 60)
    assert client.get_model_version(name, "1").tags == {"drift_status": "drift", "drift_checked_at": "14"}
    assert sum("set-tag" in call and "model-versions" in call for call in proxy.calls) == 3 + 2


def test_a_version_that_is_in_no_registry_has_a_run_all_the_same(
    client: MlflowClient, spool: Spool, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = f"eye-{version}"
    spool.put(_batch("bundled", 1, model=model, version_tags={"drift_status": "ok"}), POINTS, {})
    spool.put(_batch("17", 2, model=model, version_tags={"drift_status": "ok"}), POINTS, {})
    assert spool.send(_writer(client.tracking_uri), 60) == 0
    assert "bundled" not in caplog.text
    assert f"{model} version 17 is no longer in the registry" in caplog.text


def test_mlflows_own_patience_is_restored(
    client: MlflowClient, spool: Spool, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    spool.put(replace(_batch(version)), POINTS, {})
    spool.send(_writer(client.tracking_uri), 60)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
