"""What `drift_job.py` makes of its arguments, and the exit statuses that schedulers see."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eye_disease.cli import drift as drift_job
from eye_disease.common.errors import BusyError
from eye_disease.common.lock import only_run
from eye_disease.monitoring.job import Outcome
from tests.support.logs import MODEL, NOON, append, prediction_id, record


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALERT_URLS", "HEALTH_CHECK_URL", "DRIFT_ALPHA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INFERENCE_LOG_DIR", str(tmp_path / "log"))
    monkeypatch.setenv("MONITORING_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("ENABLE_MLFLOW_TRACKING", "false")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `drift_job.py` with arguments; gives its exit status or its last words."""

    def run(*arguments: str) -> int | str:
        monkeypatch.setattr(sys, "argv", ["drift_job.py", *arguments])
        try:
            drift_job.main()
        except SystemExit as end:
            return end.code or 0
        return 0

    return run


def test_a_run_on_an_empty_log(command: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command("run") == command() == 0
    assert capsys.readouterr().out.count(f"No records yet in {tmp_path / 'log'} (INFERENCE_LOG_DIR).") == 2


def test_a_run_says_what_it_waits_for(command: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    append(tmp_path / "log" / MODEL / "unregistered", record(0, NOON.replace(year=2100)))
    assert command("run") == 0
    assert "version unregistered: waiting. 1 of the 50 predictions that a window needs." in capsys.readouterr().out


def test_a_run_beside_another(command: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with only_run(tmp_path / "state"):
        assert command("run") == BusyError.exit_status == 75
    assert "Another run is in progress" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "status", "failed", "expected"),
    [
        ((), "drift", False, 0),
        (("--fail-on", "drift"), "drift", False, drift_job.DRIFT_EXIT_STATUS),
        (("--fail-on", "drift"), "warning", False, 0),
        (("--fail-on", "drift"), "drift", True, 1),
    ],
)
def test_exit_statuses(
    command: Any, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], status: str, failed: bool, expected: int
) -> None:
    result: Any = SimpleNamespace(verdict=SimpleNamespace(status=status))
    outcome = Outcome(MODEL, "1", result, failed=failed)
    monkeypatch.setattr(drift_job, "_run_once", lambda job: [outcome])
    assert command("run", *options) == expected


def test_every(command: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    beats: list[float] = []

    def run_every(seconds: float, run: Any, stop: Any) -> None:
        beats.append(seconds)
        run()

    monkeypatch.setattr(drift_job, "run_every", run_every)
    assert command("run", "--every", "15m") == 0
    assert beats == [900]
    assert "No records yet in " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--metrics-port", "9100"), "--metrics-port needs --every"),
        (("run", "--every", "15m", "--fail-on", "drift"), "--fail-on is for single runs"),
        (("run", "--every", "soon"), "'soon' is not an interval"),
        (("run", "--keep-days", "0"), "a whole number, 1 or more"),
        (("feedback", "--by", "x"), "either --file, or --prediction-id and --label"),
        (("feedback", "--by", "x", "--file", "a.csv", "--prediction-id", "b", "--label", "c"), "either --file"),
        (("feedback", "--file", "a.csv"), "--by"),
    ],
)
def test_arguments_that_do_not_fit(
    command: Any, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert command(*arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--reference", "last week"), "Expected window:FROM..TO"),
        (("feedback", "--by", "x", "--prediction-id", prediction_id(NOON), "--label", "normal"), "The classes of"),
        (("replay", "--prediction-id", prediction_id(NOON), "--image", __file__), "No record of prediction"),
        (("replay", "--prediction-id", prediction_id(NOON), "--image", "no-such-file"), "No such file"),
    ],
)
def test_what_cannot_be_done_is_said(command: Any, arguments: tuple[str, ...], said: str) -> None:
    assert said in str(command(*arguments))


def test_a_wrong_setting_is_named(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFT_ALPHA", "2")
    assert "DRIFT_ALPHA" in str(command("run"))


def test_labels_are_taken(command: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    made = record(0, NOON)
    append(tmp_path / "log" / MODEL / "unregistered", made)
    command("run")
    assert command("feedback", "--by", "grader-1", "--prediction-id", made["prediction_id"], "--label", "normal") == 0
    file = tmp_path / "labels.csv"
    file.write_text(f"prediction_id,label\n{made['prediction_id']},glaucoma\n")
    assert command("feedback", "--by", "grader-1", "--file", str(file)) == 0
    assert capsys.readouterr().out.count("Imported 1 label") == 2
    assert len(list((tmp_path / "log" / MODEL / "_labels").iterdir())) == 2


def test_watch_prints_the_table(command: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    append(tmp_path / "log" / MODEL / "1", record(0, NOON))
    assert command("watch") == 0
    assert MODEL in capsys.readouterr().out
