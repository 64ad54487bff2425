"""From real photos to an alert: a served model answers them, the job reads its log, a tracking server holds what it found.

The photos are those of the validation split, so good windows look like the reference that came with the model.
"""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from benchmarks.drift_answers import DEGRADATIONS, Photographer, degraded
from eye_disease.common.paths import BUNDLED_PACKAGE
from eye_disease.monitoring.version_state import Memories, VersionMemory
from eye_disease.profiles.profile import Profile
from eye_disease.profiles.reference import REFERENCE_FILE, Reference
from eye_disease.records.ingest import ingest
from eye_disease.records.storage import Storage
from eye_disease.records.store import RecordStore
from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.verdict import judge
from tests.support.servers import NAME, PROJECT, Served, python, run

EXPERIMENT = "drift-end-to-end"
SECRET = "the secret of the webhook"
STRONG = {one.kind: one for one in DEGRADATIONS if one.kind != "JPEG"}
"""The stronger of each kind, which stands last."""


@dataclass
class Receiver:
    """A web server of somebody who wants to be told."""

    url: str
    alerts: list[dict[str, Any]] = field(default_factory=list)
    tags: list[tuple[str, str]] = field(default_factory=list)
    """Key and value of the registry's signed calls."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    found = Receiver("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/alerts":
                found.alerts.append(json.loads(body))
            else:
                signed = f"{self.headers['X-MLflow-Delivery-Id']}.{self.headers['X-MLflow-Timestamp']}.{body.decode()}"
                digest = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest()
                assert self.headers["X-MLflow-Signature"] == f"v1,{base64.b64encode(digest).decode()}"
                data = json.loads(body)["data"]
                assert (data["name"], str(data["version"])) == (NAME, "1")
                found.tags.append((data["key"], data["value"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@dataclass
class Clinic:
    """Sends photos to the served model and has the job run."""

    served: Served
    env: dict[str, str]
    photos: list[bytes]

    def send(self, photos: list[bytes], site: str) -> None:
        rows = [{"image": base64.b64encode(one).decode(), "site": site} for one in photos]
        status, answer = self.served.post(json.dumps({"dataframe_records": rows}).encode())
        assert status == 200, answer
        assert len(answer["predictions"]) == len(photos)

    def judge(self) -> tuple[int, str]:
        """Exit status and output of a run of the job."""
        done = python("drift_job.py", "run", "--fail-on", "drift", env=self.env)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def clinic(
    served: Served,
    registry: dict[str, str],
    receiver: Receiver,
    real_photos: pd.DataFrame,
    tmp_path_factory: pytest.TempPathFactory,
) -> Clinic:
    """What other tests have sent to the served model counts as judged before."""
    state = tmp_path_factory.mktemp("monitoring")
    store = RecordStore(Storage(str(served.records)), NAME, "1")
    held = ingest(store, datetime.now(UTC)).after
    Memories(state).save(NAME, "1", VersionMemory(held.commit, held.records, held.records, held.missing))
    env = registry | {
        "INFERENCE_LOG_DIR": str(served.records),
        "MONITORING_DIR": str(state),
        "HEALTH_CHECK_URL": served.url,
        "ALERT_URLS": f"json://{receiver.url}/alerts",
        "MLFLOW_EXPERIMENT_NAME": EXPERIMENT,
        "DRIFT_CLEAR_AFTER": "1",
    }
    order = np.random.default_rng(0).permutation(len(real_photos))
    return Clinic(served, env, [real_photos["file"][i].read_bytes() for i in order])


def _wait_until(came: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not came():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


def test_from_photos_to_an_alert_and_its_end(clinic: Clinic, tracking: Served, receiver: Receiver, tmp_path: Path) -> None:
    client = MlflowClient(tracking.url)
    client.create_webhook("drift", f"http://{receiver.url}/registry", ["model_version_tag.set"], secret=SECRET)

    def version() -> ModelVersion:
        return client.get_model_version(NAME, "1")

    clinic.send(clinic.photos[:100], "clinic-a")
    status, said = clinic.judge()
    assert status == 0, said
    assert f"{NAME} version 1: ok" in said
    assert version().tags["drift_status"] == "ok"
    assert receiver.alerts == []

    for photos in (clinic.photos[:60], clinic.photos[60:120]):
        assert receiver.alerts == [], "one bad window is not an alarm yet"
        clinic.send([degraded(one, STRONG["blur"]) for one in photos], "clinic-a")
        status, said = clinic.judge()
        assert status == 3, said
        assert "acquisition shift" in said
        assert version().tags["drift_status"] == "drift"
    assert [one["title"] for one in receiver.alerts] == [f"Drift: {NAME} version 1"]
    assert f"Report: {tracking.url}/#/experiments/" in receiver.alerts[0]["message"]
    _wait_until(lambda: ("drift_alarm", "raised") in receiver.tags)

    clinic.send(clinic.photos[120:200], "clinic-a")
    done = run("mlflow", "run", ".", "-e", "drift", "--env-manager", "local", env=clinic.env, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    assert [one["title"] for one in receiver.alerts] == [f"Drift: {NAME} version 1", f"Drift cleared: {NAME} version 1"]
    _wait_until(lambda: ("drift_alarm", "none") in receiver.tags[receiver.tags.index(("drift_alarm", "raised")) :])
    assert [value for key, value in receiver.tags if key == "drift_status"] == ["ok", "drift", "ok"]

    _look_at_the_run(client, tmp_path)


def _look_at_the_run(client: MlflowClient, folder: Path) -> None:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id], "tags.`monitoring.version` = '1'")
    run_id = found.info.run_id
    detected = [point.value for point in client.get_metric_history(run_id, "drift_detected")]
    assert detected == [0, 1, 1, 0]
    assert len(client.get_metric_history(run_id, "prediction_confidence")) >= 280
    names = {"session_avg_confidence", "session_avg_inference_time_ms", "recent_low_confidence_ratio", "error_count"}
    names |= {"model_load_time_seconds", "health_check_response_time_ms", "drift/sharpness", "drift/embedding"}
    assert names <= set(found.data.metrics)
    steps = [point.step for point in client.get_metric_history(run_id, "prediction_count")]
    assert len(steps) == len(set(steps)) == 300
    assert "like those of the reference validation. No action needed." in found.data.tags["mlflow.note.content"]
    assert max(point.value for point in client.get_metric_history(run_id, "drift/sharpness")) > 1
    report = Path(client.download_artifacts(run_id, "report.html", str(folder))).read_text()
    assert "Not a medical device" in report
    assert len(client.list_artifacts(run_id, "raised")) == 1
    assert len(client.list_artifacts(run_id, "plots")) >= 6


@pytest.fixture(scope="module")
def photographer() -> Photographer:
    return Photographer()


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.load(BUNDLED_PACKAGE / REFERENCE_FILE)


def _found(records: pa.Table, reference: Reference) -> tuple[str, str | None]:
    verdict = judge(Profile.from_table(records, reference.layout), reference, DriftLimits())
    return verdict.status, verdict.kind


def _first(photos: pd.DataFrame, count: int, **wanted: str) -> list[bytes]:
    for name, value in wanted.items():
        photos = photos[photos[name] == value]
    return [file.read_bytes() for file in photos["file"].sample(count, random_state=0)]


@pytest.mark.parametrize("kind", sorted(set(STRONG) - {"blur"}))
def test_degraded_photos_are_an_acquisition_shift(
    kind: str, photographer: Photographer, reference: Reference, real_photos: pd.DataFrame
) -> None:
    records = photographer.score_degraded(_first(real_photos, 60), STRONG[kind])
    assert _found(records, reference) == ("drift", "acquisition")


def test_pictures_that_are_no_fundus_photos(photographer: Photographer, reference: Reference) -> None:
    assert _found(photographer.score_not_fundus(60), reference) == ("drift", "acquisition")


def test_another_class_mix_is_a_prevalence_shift(
    photographer: Photographer, reference: Reference, real_photos: pd.DataFrame
) -> None:
    mix = _first(real_photos, 100, label="diabetic_retinopathy") + _first(real_photos, 20, label="normal")
    assert _found(photographer.score(mix), reference) == ("drift", "prevalence")
