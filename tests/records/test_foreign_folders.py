"""Folders and files in the log that are not the served model's: warned of once, left out, never judged."""

import logging
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from eye_disease.monitoring.job import DriftJob
from eye_disease.monitoring.settings import MonitoringSettings
from eye_disease.records.labels import LabelBook
from eye_disease.records.recent import LogTail
from eye_disease.records.storage import Storage
from eye_disease.records.store import find_stores
from eye_disease.verdict.limits import DriftLimits
from tests.support.logs import MODEL, NOON, append, record

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")
COPIES = ("1 - Kopie", "1 (copy)", "1.bak", "1~", "2026-03-01", "v1", ".1.swp")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """With lost+found, which only root may read (or nobody, as root is who runs the tests), and copies of a version."""
    log = tmp_path / "log"
    append(log / MODEL / "1", record(0, datetime.now(UTC)))
    for name in COPIES:
        append(log / MODEL / name, record(0, datetime.now(UTC)))
    (log / "lost+found").mkdir()
    (log / "#recycle" / "old").mkdir(parents=True)
    yield log


@pytest.fixture(autouse=True)
def _unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = Storage.folders

    def refuse(self: Storage, path: str = "") -> list[str]:
        if path == "lost+found":
            raise PermissionError(13, "Permission denied", path)
        return folders(self, path)

    monkeypatch.setattr(Storage, "folders", refuse)


def _job(log: Path) -> DriftJob:
    env = {"INFERENCE_LOG_DIR": str(log), "MONITORING_DIR": str(log.parent / "state"), "ENABLE_MLFLOW_TRACKING": "false"}

    def no_writer() -> None:
        raise AssertionError

    return DriftJob(MonitoringSettings.from_env(env), DriftLimits(), no_writer)


def test_only_versions_are_judged_and_the_rest_is_warned_of_once(log: Path, caplog: pytest.LogCaptureFixture) -> None:
    job = _job(log)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert [(outcome.model, outcome.version) for outcome in job.run()] == [(MODEL, "1")]
    for path in ("lost+found", "#recycle/old", *(f"{MODEL}/{name}" for name in COPIES)):
        assert caplog.text.count(f"{log}/{path} ") == 1, path
    assert all(not list((log / MODEL / name).glob("ingest.json")) for name in COPIES)


def test_a_copy_of_a_whole_model_is_not_judged(log: Path, caplog: pytest.LogCaptureFixture) -> None:
    _job(log).run()
    shutil.copytree(log / MODEL, log / f"{MODEL} - Kopie")
    append(log / "another" / "1", record(0, datetime.now(UTC), model_name="another"))
    with caplog.at_level(logging.WARNING):
        assert [(outcome.model, outcome.version) for outcome in _job(log).run()] == [("another", "1"), (MODEL, "1")]
    assert f"{MODEL} - Kopie/1 is a copy of {MODEL}/1, and is left out" in caplog.text


def test_feedback_and_the_live_table_go_on(log: Path) -> None:
    _job(log).run()
    (store,) = find_stores(Storage(str(log)))
    (known_id,) = [value for batch in store.read_batches(["prediction_id"]) for value in batch["prediction_id"].to_pylist()]
    assert LabelBook(Storage(str(log)), MODEL).add(known_id, "normal", "grader-1", datetime.now(UTC)).taken == 1
    tail = LogTail(Storage(str(log)))
    tail.poll()
    assert list(tail.numbers) == [(MODEL, "1")]


def test_a_version_that_the_live_table_may_not_read(
    log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    append(log / MODEL / "2", record(0))
    files = Storage.files

    def refuse(self: Storage, path: str, recursive: bool = False) -> dict[str, int]:
        if path == f"{MODEL}/1":
            raise PermissionError(13, "Permission denied", path)
        return files(self, path, recursive)

    monkeypatch.setattr(Storage, "files", refuse)
    tail = LogTail(Storage(str(log)))
    tail.poll()
    tail.poll()
    assert sum(tail.numbers[MODEL, "2"].predictions.values()) == 1
    assert caplog.text.count("1 cannot be read") == 1


def test_models_whose_names_begin_with_an_underscore_or_a_dot_are_followed(tmp_path: Path) -> None:
    for name in ("_x", ".hidden", "a'b"):
        append(tmp_path / name / "1", record(0, NOON, model_name=name))
    assert [store.model for store in find_stores(Storage(str(tmp_path)))] == [".hidden", "_x", "a'b"]
