"""Two versions side by side, from made-up logs: joins, decision, objections, what is printed and what MLflow gets."""

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eye_disease.cli import drift as drift_job
from eye_disease.common.errors import BusyError, TrackingUnavailableError
from eye_disease.common.lock import only_run
from eye_disease.comparison.compare import CompareError, Comparison, compare
from eye_disease.comparison.decision import CompareLimits, decide
from eye_disease.comparison.report import metrics, rows, text
from eye_disease.evaluation.paired import Outcomes
from eye_disease.monitoring.alarm import AlarmState
from eye_disease.monitoring.settings import MonitoringSettings
from eye_disease.monitoring.version_state import Memories, VersionMemory
from eye_disease.records.labels import LabelBook
from eye_disease.records.storage import Storage
from eye_disease.verdict.limits import DriftLimits
from model_code.errors import SettingError
from tests.support.logs import CLASSES, MODEL, NOON, append, failed, record

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")
LATER = NOON + timedelta(minutes=50)
LABEL = CLASSES[0]
LIMITS = CompareLimits(margin=0.0)


class Log:
    """Writes records of two versions, each photo a second after the one before, and their labels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: dict[str, list[dict]] = {"1": [], "2": []}
        self.labels: list[str] = []

    def add(self, version: str, photo: str, right: bool, labelled: bool = False, **changes: Any) -> None:
        """An answer to a photo, which shows LABEL."""
        number = len(self.records[version])
        role = "champion" if version == "1" else "shadow"
        answer = {"predicted_class": LABEL if right else CLASSES[1], "brightness": 80.0 + sum(photo.encode()) * 17 % 60}
        made = record(
            number, NOON + timedelta(seconds=number), f"p{version}", model_version=version, image_sha256=photo, role=role
        )
        self.records[version].append(made | answer | changes)
        if labelled:
            self.labels.append(made["prediction_id"])

    def both(self, photos: int, champion: bool, challenger: bool, first: int = 0) -> None:
        """Photos that both answered, labelled by the champion's prediction, as behind a mirror."""
        for number in range(first, first + photos):
            self.add("1", f"photo-{number}", champion, labelled=True)
            self.add("2", f"photo-{number}", challenger)

    def write(self) -> None:
        for version, records in self.records.items():
            if records:
                append(self.folder / MODEL / version, *records)

    def label(self) -> None:
        """Once the records have been taken in."""
        lines = "".join(f"{prediction_id},{LABEL}\n" for prediction_id in self.labels)
        file = self.folder.parent / "labels.csv"
        file.write_text(f"prediction_id,label\n{lines}")
        LabelBook(Storage(str(self.folder)), MODEL).import_file(file, "grader-1", LATER)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


@pytest.fixture
def settings(tmp_path: Path, log: Log) -> MonitoringSettings:
    env = {"INFERENCE_LOG_DIR": str(log.folder), "MONITORING_DIR": str(tmp_path / "state")}
    return MonitoringSettings.from_env(env)


def _compare(settings: MonitoringSettings, log: Log, limits: CompareLimits = LIMITS) -> Comparison:
    log.write()
    compared = (settings, DriftLimits(), limits, MODEL, "1", "2", LATER)
    if log.labels:
        compare(*compared)  # takes the records in, without which no label is taken
        log.label()
    return compare(*compared)


def test_a_better_shadow_is_promoted(settings: MonitoringSettings, log: Log) -> None:
    log.both(100, champion=True, challenger=True)
    log.both(4, champion=True, challenger=False, first=100)
    log.both(40, champion=False, challenger=True, first=104)
    comparison = _compare(settings, log)
    assert comparison.outcomes == Outcomes(won=40, lost=4, same=100)
    assert (comparison.decision.choice, comparison.decision.reasons[0]) == ("promote", "The challenger is more accurate.")
    assert comparison.decision.evidence_for > comparison.decision.needed > comparison.decision.evidence_against
    assert (comparison.agreement.value, comparison.agreement.n) == (100 / 144, 144)
    assert comparison.champion.realised.accuracy.value == 104 / 144
    assert comparison.challenger.realised.accuracy.value == 140 / 144  # labels of the champion's predictions hold for the photo
    assert (comparison.champion.roles, comparison.challenger.roles) == ({"champion": 144}, {"shadow": 144})


def test_a_worse_one_is_not(settings: MonitoringSettings, log: Log) -> None:
    log.both(100, champion=True, challenger=True)
    log.both(30, champion=True, challenger=False, first=100)
    comparison = _compare(settings, log)
    assert comparison.decision.choice == "keep"
    assert "less accurate" in comparison.decision.reasons[0]
    assert comparison.decision.difference[1] < 0


def test_an_equal_one_waits_or_is_promoted_within_the_margin(settings: MonitoringSettings, log: Log) -> None:
    log.both(600, champion=True, challenger=True)
    log.both(3, champion=True, challenger=False, first=600)
    log.both(3, champion=False, challenger=True, first=603)
    comparison = _compare(settings, log)
    assert comparison.decision.choice == "not enough evidence yet"
    assert "leave open" in comparison.decision.reasons[0]
    limits = replace(LIMITS, margin=0.05)
    again = compare(settings, DriftLimits(), limits, MODEL, "1", "2", LATER)
    assert (again.decision.choice, again.decision.reasons[0]) == (
        "promote",
        "The challenger is not less accurate than the margin of 0.05 allows.",
    )


def test_few_labels_decide_nothing(settings: MonitoringSettings, log: Log) -> None:
    log.both(49, champion=False, challenger=True)
    assert _compare(settings, log).decision.reasons[0].startswith("49 of the 50 labels that a decision needs")
    enough = replace(LIMITS, min_labels=49)
    assert compare(settings, DriftLimits(), enough, MODEL, "1", "2", LATER).decision.choice == "promote"


def test_an_error_is_not_right(settings: MonitoringSettings, log: Log) -> None:
    log.both(60, champion=True, challenger=True)
    for number in range(60, 64):
        log.add("1", f"photo-{number}", right=True, labelled=True)
        log.add("2", f"photo-{number}", right=False, **failed(0) | _identified(log.records["2"][-1], number, f"photo-{number}"))
    comparison = _compare(settings, log)
    assert comparison.outcomes == Outcomes(lost=4, same=60)
    assert comparison.agreement.n == 60
    assert comparison.challenger.realised.unanswered == 4


def _identified(before: dict, number: int, photo: str) -> dict:
    """What makes a failed record one of version 2's own."""
    time = (NOON + timedelta(seconds=number)).isoformat(timespec="microseconds")
    changes = {"sequence": before["sequence"] + 1, "timestamp": time, "image_sha256": photo}
    return changes | {name: before[name] for name in ("process_id", "model_version", "role")}


def test_a_challenger_that_could_read_no_photo(settings: MonitoringSettings, log: Log) -> None:
    for number in range(60):
        log.add("1", f"photo-{number}", right=True, labelled=True)
        changes = {"sequence": number, "timestamp": log.records["1"][-1]["timestamp"], "image_sha256": None}
        log.records["2"].append(failed(0, "base64_invalid") | changes | {"process_id": "p2", "model_version": "2"})
    comparison = _compare(settings, log)
    assert (comparison.outcomes, comparison.agreement) == (Outcomes(champion=(0, 60)), None)
    assert comparison.decision.choice == "not enough evidence yet"
    assert "error_code: share 1" in comparison.decision.reasons[2]


@pytest.mark.parametrize("reason", ["errors", "slow", "alarm"])
def test_a_challenger_whose_service_is_not_well_is_kept_out(settings: MonitoringSettings, log: Log, reason: str) -> None:
    log.both(100, champion=True, challenger=True)
    log.both(40, champion=False, challenger=True, first=100)
    if reason == "errors":
        for number in range(40):
            last = log.records["2"][-1]
            log.records["2"].append(failed(0) | _identified(last, 140 + number, f"bad-{number}"))
    if reason == "slow":
        log.records["2"] = [answer | {"inference_time_ms": 6000.0} for answer in log.records["2"]]
    if reason == "alarm":
        memory = VersionMemory(alarm=AlarmState(raised=True))
        Memories(settings.state_dir).save(MODEL, "2", memory)
    decision = _compare(settings, log).decision
    objections = {"errors": "error_code: share 0.222", "slow": "mean_latency 6,000 ms", "alarm": "alarm on version 2 is raised"}
    assert decision.choice == "keep"
    assert decision.reasons[0] == "The challenger is accurate enough, but something else speaks against it."
    assert objections[reason] in decision.reasons[2]
    assert decision.evidence_for > decision.needed


def test_a_class_that_is_found_less_often_speaks_against_the_challenger() -> None:
    whole = Outcomes(won=120, lost=40, same=800)
    by_class = {"glaucoma": Outcomes(lost=40, same=60), "normal": Outcomes(won=120, same=740)}
    decision = decide(whole, by_class, [], LIMITS)
    assert decision.choice == "keep"
    assert decision.reasons[2].startswith("The challenger finds fewer photos of glaucoma")
    assert len(decision.reasons) == 3
    assert decide(whole, {"normal": by_class["normal"]}, [], LIMITS).choice == "promote"


def _split(log: Log, champion: tuple[int, int], challenger: tuple[int, int], **changes: Any) -> None:
    """(right, wrong) answers of each to photos of its own, all labelled; changes: of the challenger's records."""
    for version, (right, wrong) in (("1", champion), ("2", challenger)):
        for number in range(right + wrong):
            own = {"brightness": 80.0 + number % 60} | (changes if version == "2" else {})
            log.add(version, f"photo-{version}-{number}", number < right, labelled=True, **own)


def test_without_common_photos_the_labels_of_each_decide(settings: MonitoringSettings, log: Log) -> None:
    _split(log, (200, 100), (290, 10))
    comparison = _compare(settings, log)
    assert comparison.outcomes == Outcomes(champion=(100, 200), challenger=(10, 290))
    assert (comparison.decision.choice, comparison.agreement) == ("promote", None)
    assert comparison.notes == ("The drift job has not judged version 2 yet.",)


def test_versions_that_had_different_photos_are_not_compared_by_them(settings: MonitoringSettings, log: Log) -> None:
    _split(log, (200, 100), (290, 10), brightness=200.0)
    comparison = _compare(settings, log)
    assert comparison.outcomes == Outcomes()
    assert comparison.decision.choice == "not enough evidence yet"
    assert "different photos (brightness: KS distance 1.00)" in comparison.notes[0]


def test_labels_from_before_the_challenger_came_do_not_count(settings: MonitoringSettings, log: Log) -> None:
    _split(log, (100, 0), (60, 0))
    for answer in log.records["2"]:
        answer["timestamp"] = (datetime.fromisoformat(answer["timestamp"]) + timedelta(seconds=90)).isoformat(
            timespec="microseconds"
        )
    comparison = _compare(settings, log)
    # The challenger's first answer came 90 s after the champion's; the minute before it is forgiven.
    assert comparison.outcomes == Outcomes(champion=(0, 70), challenger=(0, 60))
    assert comparison.champion.profile.whole.answered == 70


def test_a_photo_counts_once_and_its_latest_label(settings: MonitoringSettings, log: Log) -> None:
    log.both(60, champion=True, challenger=True)
    for _ in range(5):
        log.add("2", "photo-0", right=False)
    comparison = _compare(settings, log)
    assert comparison.outcomes == Outcomes(lost=1, same=59)
    book = LabelBook(Storage(str(log.folder)), MODEL)
    book.add(log.records["2"][0]["prediction_id"], CLASSES[1], "grader-2", LATER + timedelta(hours=1))
    assert compare(settings, DriftLimits(), LIMITS, MODEL, "1", "2", LATER).outcomes == Outcomes(won=1, same=59)


def test_records_of_older_releases_have_no_role(settings: MonitoringSettings, log: Log) -> None:
    log.both(60, champion=True, challenger=True)
    log.records["1"] = [{name: value for name, value in answer.items() if name != "role"} for answer in log.records["1"]]
    comparison = _compare(settings, log)
    assert (comparison.champion.roles, comparison.champion.profile.whole.answered) == ({}, 60)
    assert "roles not recorded and shadow" in text(comparison)


@pytest.mark.parametrize(
    ("versions", "message"),
    [(("1", "1"), "cannot be compared with itself"), (("1", "3"), "no records of .* version 3; it has some of 1, 2")],
)
def test_versions_that_cannot_be_compared(
    settings: MonitoringSettings, log: Log, versions: tuple[str, str], message: str
) -> None:
    log.both(2, champion=True, challenger=True)
    log.write()
    with pytest.raises(CompareError, match=message):
        compare(settings, DriftLimits(), LIMITS, MODEL, *versions, LATER)


def test_other_classes_cannot_be_compared(settings: MonitoringSettings, log: Log) -> None:
    log.add("1", "photo", right=True)
    log.write()
    append(log.folder / MODEL / "2", record(0, classes=("a", "b"), model_version="2"))
    with pytest.raises(CompareError, match=r"different classes: cataract, .* and a, b"):
        compare(settings, DriftLimits(), LIMITS, MODEL, "1", "2", LATER)


def test_it_waits_for_no_other_run(settings: MonitoringSettings, log: Log) -> None:
    with only_run(settings.state_dir), pytest.raises(BusyError):
        _compare(settings, log)


def test_what_is_printed(settings: MonitoringSettings, log: Log) -> None:
    log.both(60, champion=True, challenger=True)
    printed = text(_compare(settings, log))
    for line in (
        f"{MODEL}: champion version 1, challenger version 2",
        "records                               60          60",
        "accuracy                           1.000       1.000",
        "Same class: 1.000 of 60 photos that both answered.",
        "Note: The drift job has not judged version 2 yet.",
        "Decision: not enough evidence yet",
    ):
        assert line in printed


def test_the_figures_of_the_table_are_those_of_the_records(settings: MonitoringSettings, log: Log) -> None:
    log.both(60, champion=True, challenger=False)
    comparison = _compare(settings, log)
    table = {row.figure: (row.champion, row.challenger) for row in rows(comparison)}
    assert table["accuracy"] == (1.0, 0.0)
    assert table["recall_cataract"] == (1.0, 0.0)
    assert table["class_cataract_share"] == (1.0, 0.0)
    assert table["mean_confidence"] == (pytest.approx(0.7, abs=1e-5), pytest.approx(0.7, abs=1e-5))
    assert table["decision_report_share"] == (1.0, 1.0)
    assert table["error_share"] == (0.0, 0.0)
    assert all(np.isfinite(value) for value in metrics(comparison).values())
    assert metrics(comparison)["champion/accuracy"] == 1.0


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"COMPARE_ALPHA": "0.01", "COMPARE_MARGIN": "0", "COMPARE_MAX_RECALL_LOSS": "0.1", "COMPARE_MIN_LABELS": "7"}
    assert CompareLimits.from_env({}) == CompareLimits(0.05, 0.02, 0.05, 50)
    assert CompareLimits.from_env(env) == CompareLimits(0.01, 0.0, 0.1, 7)
    for name, wrong in (("COMPARE_ALPHA", "0"), ("COMPARE_MARGIN", "2"), ("COMPARE_MIN_LABELS", "0")):
        with pytest.raises(SettingError, match=name):
            CompareLimits.from_env({name: wrong})


@pytest.fixture
def command(settings: MonitoringSettings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `drift_job.py compare`; gives its exit status or its last words."""
    for name in ("ALERT_URLS", "HEALTH_CHECK_URL", "COMPARE_MARGIN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INFERENCE_LOG_DIR", settings.inference_log)
    monkeypatch.setenv("MONITORING_DIR", str(settings.state_dir))
    monkeypatch.setattr(drift_job, "datetime", type("Clock", (), {"now": staticmethod(lambda zone: LATER.astimezone(UTC))}))

    def run(**env: str) -> int | str:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["drift_job.py", "compare", "--champion", "1", "--challenger", "2"])
        with pytest.raises(SystemExit) as end:
            drift_job.main()
        return end.value.code

    return run


def test_the_exit_status_is_the_decision(command: Any, log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    log.both(100, champion=True, challenger=True)
    log.both(40, champion=False, challenger=True, first=100)
    log.write()
    assert command(ENABLE_MLFLOW_TRACKING="false") == 5
    log.label()
    assert command() == 0
    assert "Decision: promote" in capsys.readouterr().out
    assert command(COMPARE_MIN_LABELS="141") == 5


def test_what_cannot_be_compared_is_said(command: Any, log: Log) -> None:
    log.add("1", "photo", right=True)
    log.write()
    assert "has no records of eye-disease-classifier version 2" in str(command(ENABLE_MLFLOW_TRACKING="false"))


def test_without_mlflow_it_prints_and_fails(command: Any, log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    log.both(2, champion=True, challenger=True)
    log.write()
    status = command(MLFLOW_TRACKING_URI="http://127.0.0.1:9", ENABLE_MLFLOW_TRACKING="true")
    assert status == TrackingUnavailableError.exit_status
    shown = capsys.readouterr()
    assert "is not, or not wholly, in MLflow" in shown.err
    assert "Decision: not enough evidence yet" in shown.out
