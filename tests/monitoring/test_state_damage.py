"""Every file that the drift job keeps, damaged in every way: it is named, kept, and costs only itself."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from eye_disease.common.errors import BusyError
from eye_disease.common.lock import only_run
from eye_disease.monitoring import alerts, job, package_cache
from eye_disease.monitoring.job import DriftJob, Outcome
from eye_disease.monitoring.references import ProductionWindow
from eye_disease.monitoring.settings import MonitoringSettings
from eye_disease.profiles.layout import EMBEDDING
from eye_disease.profiles.reference import Reference
from eye_disease.records.labels import LabelBook
from eye_disease.records.storage import Storage
from eye_disease.records.store import find_stores
from eye_disease.verdict.limits import DriftLimits
from tests.support.damage import DAMAGE, without_permission
from tests.support.drift_logs import give_reference, write_log
from tests.support.drift_records import CLASSES, make_records
from tests.support.drift_standins import Mlflow, People
from tests.support.logs import MODEL, NOON, minutes

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")
WINDOW = ProductionWindow(NOON - timedelta(hours=1), NOON)
FILES = {
    "ingest": "log/*/1/ingest.json",
    "labels": "log/*/_labels/*.ndjson",
    "memory": "state/versions/*/1.json",
    "recent": "state/recent/*/1.windows.json",
    "spool": "state/spool/*-1-00000001/batch.json",
    "metrics": "state/spool/*-1-00000001/metrics.ndjson",
    "alert": "state/alerts/waiting/*.json",
    "reference": "state/references/*/1/*.json",
    "package": "state/packages/*/1/reference_profile.json",
    "request": "state/actions/*-command/request.json",
    "lock": "state/lock",
}
"""What is damaged -> where it is. Version 1 has drifted, its command and alert wait; version 2 is well."""


KINDS = {name: damage for name, damage in DAMAGE.items() if name not in ("zeros", "another kind of JSON")}


_NO_FIELDS = ("labels", "metrics", "lock")
"""They have neither fields nor a format."""
CASES = {
    f"{what}: {kind}": (what, damage)
    for what in FILES
    for kind, damage in KINDS.items()
    if not (what in (*_NO_FIELDS, "request") and kind == "a newer format")
    and not (what in _NO_FIELDS and kind == "other types")
    and not (what == "reference" and kind not in ("gone", "half"))  # takes seconds to make again
}


def _records(n: int, seed: int, **changes: Any) -> pa.Table:
    return make_records(n, seed, **changes).drop_columns(list(EMBEDDING))


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.build(_records(300, seed=1), CLASSES, "validation", MODEL)


class _Deaf(People):
    failure = "no connection"

    def notify(self, title: str, body: str, notify_type: Any) -> bool:
        return False


class World:
    """A log and the job's state below `folder`; MLflow and people may be away."""

    def __init__(self, folder: Path, windows: int = 2) -> None:
        self.folder, self.now = folder, NOON + windows * minutes(15)
        self.mlflow = Mlflow()
        env = {"INFERENCE_LOG_DIR": str(folder / "log"), "MONITORING_DIR": str(folder / "state"), "ALERT_URLS": "json://a"}
        self.settings = replace(MonitoringSettings.from_env(env), on_raise=("true",))

    def write(self, seed: int) -> None:
        blurred = _records(60, seed, sharpness=0.5)
        for version, records in (("1", blurred), ("2", _records(60, seed + 50))):
            write_log(self.folder / "log", records, self.now - minutes(10), f"p{self.now:%H%M}", version)

    def run(self, reference: ProductionWindow | None = None) -> dict[str, Outcome]:
        def make_writer() -> Any:
            return self.mlflow

        done = DriftJob(self.settings, DriftLimits(), make_writer, reference=reference, now=lambda: self.now).run()
        self.now += minutes(15)
        return {line.version: line for line in done}

    def ids(self) -> list[str]:
        """Of all records in the store."""
        batches = [
            batch
            for store in find_stores(Storage(str(self.folder / "log")))
            for batch in store.read_batches(["prediction_id"], canary=True)
        ]
        return [value for batch in batches for value in batch["prediction_id"].to_pylist()]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, reference: Reference) -> Path:
    """The folder after two windows, with MLflow and people away, and an alarm raised on version 1."""
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patched:
        _quick(patched, _Deaf())
        patched.setattr(job.Actions, "advance", lambda self, is_raised: iter(()))
        world = World(folder, windows=0)
        world.mlflow.down = True
        for version in ("1", "2"):
            give_reference(folder / "state", reference, version)
        for seed in (10, 11):
            world.write(seed)
            world.run()
        world.write(12)
        world.run(WINDOW)
    book = LabelBook(Storage(str(folder / "log")), MODEL)
    for prediction_id in world.ids()[:3]:
        book.add(prediction_id, "normal", "grader-1", world.now)
    for where in FILES.values():
        assert list(folder.glob(where)), where
    return folder


def _quick(patched: pytest.MonkeyPatch, people: People) -> None:
    patched.setattr(alerts, "_service", lambda number, url: people)
    patched.setattr(job, "make_report", lambda result: {"report.html": result.problem.encode()})


@pytest.fixture
def world(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: Reference) -> World:
    folder = tmp_path / "world"
    shutil.copytree(template, folder)
    _quick(monkeypatch, People())

    def fetch(model: str, version: str, stored: Path) -> Path:
        stored.mkdir(parents=True)
        reference.save(stored / "reference_profile.json")
        return stored

    monkeypatch.setattr(package_cache, "_fetch", fetch)
    return World(folder, windows=4)


def _kept(folder: Path, content: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "damaged" in str(path) and path.read_bytes() == content]


@pytest.mark.parametrize(("what", "damage"), CASES.values(), ids=CASES.keys())
def test_a_damaged_file_costs_only_itself(
    world: World, what: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = sorted(world.folder.glob(FILES[what]))[0]
    damage(path)
    damaged = path.read_bytes() if path.exists() else None
    stored = world.ids() if what != "ingest" else None
    world.write(13)
    using = WINDOW if what == "reference" else None
    with caplog.at_level(logging.ERROR):
        outcomes = world.run(using)
    assert not any(outcome.failed for outcome in outcomes.values())
    assert [outcome.findings is not None for outcome in outcomes.values()] == [True, True]
    ids = world.ids()
    assert len(ids) == len(set(ids)) == 4 * 120, "none lost, none twice"
    assert stored is None or set(stored) <= set(ids)
    assert list((world.folder / "state" / "spool").glob("*/batch.json")) == [], "the other results have gone out"
    if damaged is not None and what != "lock":
        assert _kept(world.folder, damaged), "it is kept"
        assert path.name in caplog.text, "and named"
    if damage is DAMAGE["half"]:
        caplog.clear()
        with caplog.at_level(logging.ERROR):
            assert not any(outcome.failed for outcome in world.run(using).values())
        assert "damaged" not in caplog.text, "once"


@pytest.mark.parametrize("what", [one for one in FILES if one not in ("lock", "metrics", "package", "reference")])
def test_a_file_that_may_not_be_read_is_named_and_waits(
    world: World, what: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sorted(world.folder.glob(FILES[what]))[0]
    content = path.read_bytes()
    world.write(13)
    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
        without_permission(patched, path.name, path.parent.name)
        outcomes = world.run()
    assert outcomes["2"].findings is not None
    assert outcomes["1"].failed == (what in ("ingest", "memory", "recent"))
    assert f"{path} cannot be read (Permission denied)" in caplog.text
    assert path.read_bytes() == content
    assert len(world.run()) == 2
    ids = world.ids()
    assert len(ids) == len(set(ids)) == 4 * 120


def test_a_damaged_parquet_file_is_named_and_the_window_judged_without_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    parquet = sorted(world.folder.glob("log/*/1/records/*/*.parquet"))[0]
    parquet.write_bytes(parquet.read_bytes()[:1000])
    (world.folder / "state" / "versions" / MODEL / "1.json").unlink()
    with caplog.at_level(logging.ERROR):
        outcomes = world.run()
    assert f"{parquet} is damaged" in caplog.text
    assert outcomes["1"].findings is not None
    assert outcomes["1"].findings.verdict.n == 120, "of 180, 60 were in that file"


def test_a_folder_of_the_log_that_may_not_be_read_stops_only_its_version(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = Storage.entries

    def refuse(self: Storage, path: str, *arguments: Any, **options: Any) -> Any:
        if path == f"{MODEL}/1":
            raise PermissionError(13, "Permission denied", path)
        return entries(self, path, *arguments, **options)

    monkeypatch.setattr(Storage, "entries", refuse)
    world.write(13)
    outcomes = world.run()
    assert (outcomes["1"].failed, outcomes["2"].findings is not None) == (True, True)
    assert "Permission denied" in str(outcomes["1"])


def test_a_lock_that_somebody_deletes_still_keeps_the_next_run_out(world: World) -> None:
    with only_run(world.folder / "state"):
        (world.folder / "state" / "lock").unlink()
        with pytest.raises(BusyError):
            world.run()


def test_statuses_are_read_from_the_memories(world: World) -> None:
    statuses = job.Memories(world.folder / "state").statuses()
    assert statuses == {(MODEL, "1"): "ok", (MODEL, "2"): "ok"}
    assert not (world.folder / "state" / "statuses.json").exists()
    assert json.loads((world.folder / "state" / "versions" / MODEL / "1.json").read_text())["format"] == 1
