"""The job as a whole, in this process and with a clock of its own; what it tells MLflow and people is kept by stand-ins."""

import json
import logging
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from eye_disease.common.errors import BusyError, TrackingUnavailableError
from eye_disease.common.lock import only_run
from eye_disease.monitoring import alerts, job, window
from eye_disease.monitoring.job import DriftJob, Outcome
from eye_disease.monitoring.references import NoReferenceError, ProductionWindow
from eye_disease.monitoring.settings import MonitoringSettings
from eye_disease.monitoring.version_state import Memories
from eye_disease.profiles.layout import EMBEDDING
from eye_disease.profiles.profile import Profile
from eye_disease.profiles.reference import Reference
from eye_disease.records.labels import LabelBook
from eye_disease.records.storage import Storage
from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.service import Health
from model_code.promise import Promise
from tests.support.drift_logs import give_promise, give_reference, write_log
from tests.support.drift_records import CLASSES, make_errors, make_records
from tests.support.drift_standins import Mlflow, People
from tests.support.logs import MODEL, NOON, minutes
from tests.support.servers import read_records

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")
ALERT_URL = "json://127.0.0.1:9"
BLURRED = {"sharpness": 0.5}


@pytest.fixture(scope="module")
def reference() -> Reference:
    """Without embeddings, whose tests by permutation would take most of the time."""
    return Reference.build(_records(300, seed=1), CLASSES, "validation", MODEL)


def _records(n: int, seed: int, **changes: Any) -> pa.Table:
    return make_records(n, seed, **changes).drop_columns(list(EMBEDDING))


class World:
    """A log, the job's state, its clock, and those it tells."""

    def __init__(self, folder: Path) -> None:
        self.log, self.state = folder / "log", folder / "state"
        self.now = NOON
        self.mlflow = Mlflow()
        self.people = People()
        self.options: dict[str, Any] = {}
        self.settings = MonitoringSettings.from_env(
            {"INFERENCE_LOG_DIR": str(self.log), "MONITORING_DIR": str(self.state), "ALERT_URLS": ALERT_URL}
        )

    def write(self, records: pa.Table, version: str = "1") -> None:
        write_log(self.log, records, self.now - minutes(10), f"p{self.now:%H%M}", version)

    def job(self) -> DriftJob:
        def make_writer() -> Any:
            return self.mlflow

        return DriftJob(self.settings, DriftLimits(), make_writer, now=lambda: self.now, **self.options)

    def run(self) -> list[Outcome]:
        outcomes = self.job().run()
        self.now += minutes(15)
        return outcomes

    def run_on(self, records: pa.Table) -> str:
        """Status of the only version after these records."""
        self.write(records)
        (outcome,) = self.run()
        return outcome.findings.verdict.status if outcome.findings else "waiting"

    def told(self) -> list[str]:
        return [title for title, _ in self.people.told]


@pytest.fixture
def world(tmp_path: Path, reference: Reference, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    give_reference(made.state, reference)
    monkeypatch.setattr(alerts, "_service", lambda number, url: made.people)
    return made


@pytest.fixture
def small_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take longer than all the rest."""
    monkeypatch.setattr(job, "make_report", lambda result: {"report.html": result.problem.encode()})


def test_a_good_window_is_written_with_the_names_and_times_of_the_data(world: World) -> None:
    assert world.run_on(_records(80, seed=20)) == "ok"
    first = int((NOON - minutes(10)).timestamp() * 1000)
    counted = [point for point in world.mlflow.points() if point.name == "prediction_count"]
    counts = [(point.value, point.timestamp_ms, point.step) for point in counted]
    assert counts == [(i + 1, first + 1000 * i, i) for i in range(80)]
    names = {point.name for point in world.mlflow.points()}
    own = {"prediction_confidence", "prediction_inference_time_ms", *(f"prob_{name}" for name in CLASSES)}
    session = {"session_avg_confidence", "session_avg_inference_time_ms", "recent_low_confidence_ratio", "drift_detected"}
    service = {"model_load_time_seconds", "error_count", "estimated_accuracy", "session_predictions"}
    streams = {f"drift/{name}" for name in ("confidence", "predicted_class", "sharpness", "probabilities", "colour")}
    assert names >= own | session | service | streams
    of_window = {(point.timestamp_ms, point.step) for point in world.mlflow.points() if point.name in session | service}
    assert of_window == {(first + 79_000, 1)}
    batch = world.mlflow.last().batch
    assert batch.version_tags == {"drift_status": "ok", "drift_alarm": "none", "drift_checked_at": "2026-03-01T12:00:00+00:00"}
    assert batch.run_tags["drift_reference"] == "validation"
    assert "The 80 answers of the last window are like those of the reference validation. No action needed." in batch.note
    _, _, files = next(iter(world.mlflow.batches.values()))
    assert {"report.html", "checks.csv"} <= files
    shares = [point for point in world.mlflow.points() if point.name.startswith("drift/")]
    assert len(shares) == len({point.name for point in shares}) < 20
    assert all(0 <= point.value < 1 for point in shares)
    assert {path for path in files if path.endswith(".png")} >= {"plots/class_mix.png", "plots/drift.png"}
    assert world.told() == []
    assert Memories(world.state).statuses() == {(MODEL, "1"): "ok"}


@pytest.mark.usefixtures("small_report")
def test_two_bad_windows_raise_and_three_good_ones_clear_once(world: World) -> None:
    outcomes = [world.run_on(_records(80, seed=i, **BLURRED)) for i in range(10, 14)]
    assert outcomes == ["drift"] * 4
    assert world.told() == [f"Drift: {MODEL} version 1"]
    body = world.people.told[0][1]
    assert "acquisition shift" in body
    assert "Check camera, light, operator and export" in body
    assert f"http://mlflow/{MODEL}/1" in body
    assert world.mlflow.last().batch.version_tags["drift_alarm"] == "raised"
    outcomes = [world.run_on(_records(80, seed=i)) for i in range(20, 23)]
    assert outcomes == ["ok"] * 3
    assert world.told() == [f"Drift: {MODEL} version 1", f"Drift cleared: {MODEL} version 1"]
    assert world.mlflow.metric("drift_detected") == [(i, float(i <= 4)) for i in range(1, 8)]
    assert world.mlflow.last().batch.version_tags["drift_alarm"] == "none"


@pytest.mark.usefixtures("small_report")
def test_a_window_waits_for_fifty_predictions_and_a_day_at_most(world: World) -> None:
    assert world.run_on(_records(30, seed=3)) == "waiting"
    assert world.run_on(_records(15, seed=4)) == "waiting"
    assert world.run_on(_records(10, seed=5)) == "ok"
    assert world.mlflow.metric("session_predictions") == [(1, 55)]
    assert world.run_on(_records(10, seed=6)) == "waiting"
    world.now += timedelta(hours=24)
    (outcome,) = world.run()
    assert outcome.findings is not None
    assert outcome.findings.verdict.status == "insufficient_data"
    assert "Only 10 answers arrived" in str(outcome)
    assert world.mlflow.metric("session_predictions") == [(1, 55), (2, 10)]
    world.now += timedelta(hours=48)
    shutil.rmtree(world.state / "packages")  # a silent version needs no reference, nor a registry that would give it
    assert "No predictions since the last window." in str(world.run()[0]), "silence is told of once"


@pytest.mark.usefixtures("small_report")
def test_nothing_but_errors_is_a_drift_of_the_service(world: World) -> None:
    assert world.run_on(make_errors(60).drop_columns(list(EMBEDDING))) == "drift"
    note = world.mlflow.last().batch.note
    assert "60 image_corrupt" in note
    assert "Look at what the clients send" in note
    assert world.mlflow.metric("error_count") == [(1, 60)]


@pytest.mark.usefixtures("small_report")
def test_every_version_is_judged_for_itself(world: World, reference: Reference) -> None:
    give_reference(world.state, reference, "2")
    world.write(_records(80, seed=20), "1")
    world.write(_records(80, seed=3, **BLURRED), "2")
    assert [outcome.findings.verdict.status for outcome in world.run() if outcome.findings] == ["ok", "drift"]
    assert Memories(world.state).statuses() == {(MODEL, "1"): "ok", (MODEL, "2"): "drift"}
    assert {waiting.batch.version for waiting, _, _ in world.mlflow.batches.values()} == {"1", "2"}


@pytest.mark.usefixtures("small_report")
def test_a_version_without_a_reference_is_judged_by_rules_only_and_says_so(world: World) -> None:
    world.write(_records(80, seed=2, **BLURRED), "unregistered")
    (outcome,) = world.run()
    assert outcome.findings is not None
    assert outcome.findings.verdict.status == "ok"
    assert "No reference came with version unregistered" in str(outcome)
    assert "No reference came with version unregistered" in world.mlflow.last().batch.note
    assert {check.source for check in outcome.findings.verdict.checks} == {"rule", "service"}


@pytest.mark.usefixtures("small_report")
def test_results_wait_while_mlflow_is_down(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.mlflow.down = True
    assert [world.run_on(_records(60, seed=i)) for i in (1, 2)] == ["ok", "ok"]
    assert "2 result batches are queued" in caplog.text
    assert world.mlflow.batches == {}
    world.mlflow.down = False
    world.run()
    assert Counter(world.mlflow.points()).most_common(1)[0][1] == 1
    assert world.mlflow.metric("prediction_count") == [(i, i + 1) for i in range(120)]


@pytest.mark.usefixtures("small_report")
def test_nothing_is_written_where_tracking_is_off(world: World) -> None:
    world.settings = replace(world.settings, tracking_enabled=False)
    assert [world.run_on(_records(60, seed=i, **BLURRED)) for i in (1, 2)] == ["drift", "drift"]
    assert world.mlflow.batches == {}
    assert not (world.state / "spool").exists()
    assert world.told() == [f"Drift: {MODEL} version 1"]


@pytest.mark.usefixtures("small_report")
def test_a_window_waits_for_its_reference(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*arguments: Any) -> None:
        raise TrackingUnavailableError("no connection")

    with monkeypatch.context() as patched:
        patched.setattr("eye_disease.monitoring.package_cache.Packages.find", unavailable)
        world.write(_records(60, seed=1, **BLURRED))
        (outcome,) = world.run()
        assert (outcome.findings, outcome.failed) == (None, False)
        assert "reference cannot be fetched yet: no connection" in str(outcome)
    assert [outcome.findings.verdict.status for outcome in world.run() if outcome.findings] == ["drift"]


@pytest.mark.usefixtures("small_report")
def test_a_production_window_as_the_reference(world: World, caplog: pytest.LogCaptureFixture) -> None:
    window_of_day = ProductionWindow.parse("window:2026-03-01T11:00..2026-03-01T12:00")
    world.write(_records(100, seed=1, **BLURRED))
    assert [outcome.findings.verdict.status for outcome in world.run() if outcome.findings] == ["drift"]
    world.options["reference"] = window_of_day
    with caplog.at_level(logging.WARNING):
        assert world.run_on(_records(100, seed=20, **BLURRED)) == "ok"
    assert "New reference window:2026-03-01T11:00:00Z..2026-03-01T12:00:00Z" in caplog.text
    batch = world.mlflow.last().batch
    assert batch.run_tags["drift_reference"] == window_of_day.name
    assert "not against the reference of the model's package" in batch.note
    caplog.clear()
    assert world.run_on(_records(100, seed=3)) == "drift"
    assert "New reference" not in caplog.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("window:2026-03-01T11:00..2027-03-01", "is not over yet"),
        ("window:2025-01-01..2025-01-02", "has no records in"),
    ],
)
def test_a_reference_that_cannot_be_had_stops_that_version(world: World, text: str, said: str) -> None:
    world.options["reference"] = ProductionWindow.parse(text)
    world.write(_records(60, seed=1))
    (outcome,) = world.run()
    assert outcome.failed
    assert said in str(outcome)


@pytest.mark.parametrize("text", ["validation", "window:2026-03-01", "window:x..y", "window:2026-03-02..2026-03-01"])
def test_what_is_no_window_is_named(text: str) -> None:
    with pytest.raises(NoReferenceError, match=r"Expected window:FROM\.\.TO"):
        ProductionWindow.parse(text)


def test_times_of_a_window_are_utc_unless_they_say_otherwise() -> None:
    window = ProductionWindow.parse("window:2026-03-01..2026-03-02T01:00+02:00")
    assert (window.start, window.end) == (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 1, 23, tzinfo=UTC))


@pytest.mark.usefixtures("small_report")
def test_a_server_that_is_down_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    probed = Health(False, "The answer to the canary photo is wrong: decision is 'retake'.", 3.5, "1")
    monkeypatch.setattr(job, "probe_served", lambda *arguments: ((MODEL, "1"), probed))
    world.settings = replace(world.settings, health_url="http://127.0.0.1:9")
    world.write(_records(10, seed=1))
    assert [outcome.findings.verdict.status for _ in range(2) for outcome in world.run() if outcome.findings] == [
        "drift",
        "drift",
    ]
    assert world.told() == [f"Drift: {MODEL} version 1"]
    assert "The service is unhealthy: The answer to the canary photo is wrong" in world.people.told[0][1]
    assert world.mlflow.metric("health_check_response_time_ms") == [(1, 3.5), (2, 3.5)]


@pytest.mark.usefixtures("small_report")
def test_a_huge_window_shows_a_part_of_its_predictions_and_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "MAX_SHOWN", 30)
    assert world.run_on(_records(100, seed=1)) == "ok"
    assert world.mlflow.metric("prediction_count") == [(i, i + 1) for i in range(0, 100, 4)]
    assert world.mlflow.metric("session_predictions") == [(1, 100)]
    assert "Of 100 predictions one in 4 is logged individually" in world.mlflow.last().batch.note


@pytest.mark.usefixtures("small_report")
def test_labels_count_as_realised_performance(world: World) -> None:
    world.write(_records(60, seed=1))
    world.run()
    answers = [record for record in read_records(world.log) if record["predicted_class"] == "normal"]
    file = world.log.with_suffix(".csv")
    file.write_text("\n".join(["prediction_id,label", *(f"{answer['prediction_id']},glaucoma" for answer in answers)]))
    LabelBook(Storage(str(world.log)), MODEL).import_file(file, "grader-1", world.now)
    world.write(_records(60, seed=2))
    (outcome,) = world.run()
    assert outcome.findings is not None
    assert outcome.findings.realised is not None
    assert outcome.findings.realised.labelled == len(answers) > 5
    assert world.mlflow.metric("realised_accuracy") == [(2, 0.0)]
    assert ("accuracy", "realised") in {(check.stream, check.statistic) for check in outcome.findings.verdict.reasons}


@pytest.mark.usefixtures("small_report")
def test_what_labels_say_of_reported_answers_is_held_against_the_promise(world: World) -> None:
    give_promise(world.state, Promise(0.08, 0.05, 0.95, 0.7, None, None, 0.6, 400))
    world.write(_records(120, seed=1))
    world.run()
    answers = [record for record in read_records(world.log) if record["predicted_class"]]
    labels = [answer["predicted_class"] if i % 3 else "cataract" for i, answer in enumerate(answers)]
    reported = [
        (row["predicted_class"], label) for row, label in zip(answers, labels, strict=True) if row["decision"] == "report"
    ]
    wrong = sum(predicted != label for predicted, label in reported)
    file = world.log.with_suffix(".csv")
    rows = (f"{answer['prediction_id']},{label}" for answer, label in zip(answers, labels, strict=True))
    file.write_text("\n".join(["prediction_id,label", *rows]))
    LabelBook(Storage(str(world.log)), MODEL).import_file(file, "grader-1", world.now)
    world.write(_records(60, seed=2))
    (outcome,) = world.run()
    assert outcome.findings is not None
    share = outcome.findings.realised.error_among_reported
    assert (round(share.value * share.n), share.n) == (wrong, len(reported))
    assert ("report", "error_share", "drift") in {
        (check.stream, check.statistic, check.level) for check in outcome.findings.verdict.reasons
    }
    for name, value in (
        ("realised_error_among_reported", share.value),
        ("realised_error_among_reported_low", share.low),
        ("promised_error_among_reported", 0.08),
    ):
        assert world.mlflow.metric(name)[-1] == (2, pytest.approx(value))


@pytest.mark.usefixtures("small_report")
def test_a_promise_that_cannot_be_read_is_named(world: World) -> None:
    give_promise(world.state, Promise(0.08, 0.05, 0.95, None, None, None, 0.0, 400))
    facts = world.state / "packages" / MODEL / "1" / "model.json"
    facts.write_text(facts.read_text().replace("max_error", "largest_error"))
    world.write(_records(60, seed=1))
    (outcome,) = world.run()
    assert outcome.failed
    assert "model.json does not hold a promise of this release (TypeError" in outcome.why_not


def test_a_second_run_at_the_same_time_does_nothing(world: World) -> None:
    world.write(_records(60, seed=1))
    with only_run(world.state), pytest.raises(BusyError):
        world.run()
    assert world.mlflow.batches == {}


class Killed(BaseException):
    """As by SIGKILL."""


def _kill_at(step: int, patched: pytest.MonkeyPatch) -> None:
    """The process ends right before the `step`-th thing it does to a file."""
    left = [step]

    def counted(what: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return what(*arguments, **options)

        return call

    for name in ("create", "remove"):
        patched.setattr(Storage, name, counted(getattr(Storage, name)))
    for name in ("rename", "replace", "unlink"):
        patched.setattr(Path, name, counted(getattr(Path, name)))
    patched.setattr(shutil, "rmtree", counted(shutil.rmtree))


@pytest.mark.slow
@pytest.mark.usefixtures("small_report")
def test_killed_at_every_step_nothing_is_lost_or_doubled(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the run that raises the alarm; more predictions come before the next run."""
    world.run_on(_records(60, seed=1))
    world.run_on(_records(60, seed=2, **BLURRED))
    world.write(_records(60, seed=3, **BLURRED))
    now, before = world.now, dict(world.mlflow.batches)
    for name in ("log", "state"):
        shutil.copytree(tmp_path / name, tmp_path / f"kept-{name}")
    told_twice, step, ended = 0, 0, False
    while not ended:
        for name in ("log", "state"):
            shutil.rmtree(tmp_path / name)
            shutil.copytree(tmp_path / f"kept-{name}", tmp_path / name)
        world.now, world.mlflow.batches, world.people.told = now, dict(before), []
        with monkeypatch.context() as patched:
            _kill_at(step, patched)
            try:
                world.run()
                ended = True
            except Killed:
                world.now = now + minutes(15)
        world.write(_records(60, seed=4, **BLURRED))
        world.run()
        assert world.mlflow.metric("prediction_count") == [(i, i + 1) for i in range(240)], step
        assert Counter(world.mlflow.points()).most_common(1)[0][1] == 1, step
        assert sum(value for _, value in world.mlflow.metric("session_predictions")) == 240, step
        assert set(world.told()) == {f"Drift: {MODEL} version 1"}, step
        told_twice += len(world.told()) - 1
        assert list((world.state / "spool").glob("*/batch.json")) == [], step
        assert Memories(world.state).statuses() == {(MODEL, "1"): "drift"}, step
        step += 1
    assert step > 15
    assert told_twice == 2, "where it is killed between telling and noting it: one alert too many, never one too few"


WEAK = {"sharpness": 0.92}


@pytest.mark.usefixtures("small_report")
def test_a_drift_too_weak_for_one_window_raises_an_alarm_with_its_date(world: World) -> None:
    for seed in range(601, 611):
        assert world.run_on(_records(80, seed=seed)) == "ok"
    began = world.now - minutes(10)
    outcomes = [world.run_on(_records(80, seed=seed, **WEAK)) for seed in range(640, 650)]
    assert outcomes[0] == "ok", "one window does not show it"
    assert outcomes[-2:] == ["drift", "drift"]
    assert world.told() == [f"Drift: {MODEL} version 1"]
    body = world.people.told[0][1]
    assert re.search(rf"since about {began.day} {began:%B %Y}, \d\d:\d\d UTC", body)
    assert "sharpness: " in body
    since = datetime.fromisoformat(world.mlflow.last().batch.run_tags["drift_since"])
    assert abs(since - began) <= minutes(30), "within two windows"
    lasting = dict(world.mlflow.metric("drift_lasting"))
    assert lasting.keys() == set(range(1, 21))
    assert lasting[5] < 1 < lasting[20]


@pytest.mark.usefixtures("small_report")
def test_records_of_judged_windows_are_never_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        world.run_on(_records(60, seed=seed))
    profiled: list[int] = []
    made = Profile.from_table
    monkeypatch.setattr(
        Profile, "from_table", lambda records, layout: (profiled.append(len(records)), made(records, layout))[1]
    )
    world.run_on(_records(60, seed=7))
    assert sum(profiled) == 60


@pytest.mark.usefixtures("small_report")
def test_state_of_an_earlier_release_goes_on_without_the_windows_before(world: World) -> None:
    for seed in range(3):
        world.run_on(_records(60, seed=seed))
    shutil.rmtree(world.state / "recent")
    assert world.run_on(_records(60, seed=7)) == "ok"
    (path,) = (world.state / "recent").rglob("*.json")
    assert [window["number"] for window in json.loads(path.read_text())["windows"]] == [4]


@pytest.mark.usefixtures("small_report")
def test_a_run_killed_before_its_memory_is_saved_counts_its_window_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run_on(_records(60, seed=1))
    world.write(_records(60, seed=2))

    def killed(self: Memories, *arguments: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(Memories, "save", killed)
        world.run()
    world.now += minutes(15)
    world.write(_records(60, seed=3))
    (outcome,) = world.run()
    assert outcome.findings is not None
    assert outcome.findings.verdict.n == 120
    (path,) = (world.state / "recent").rglob("*.json")
    stored = json.loads(path.read_text())["windows"]
    assert [(window["number"], sum(window["tally"]["classes"])) for window in stored] == [(1, 60), (2, 120)]
