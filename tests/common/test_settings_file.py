"""What the start wrote down, below the environment."""

from pathlib import Path

import pytest

from eye_disease.common.settings_file import NAMES, SettingsFileError, apply, read, settings_file
from tests.support.servers import PROJECT

HELD = "# a comment\nMLFLOW_TRACKING_URI=http://127.0.0.1:5000\nINFERENCE_LOG_DIR=/a folder/with = and 'quotes'\n\n"


def _written(folder: Path, text: str) -> dict[str, str]:
    (folder / "settings").write_text(text)
    return {"SETTINGS_FILE": str(folder / "settings")}


def test_what_is_not_set_is_taken(tmp_path: Path) -> None:
    env = _written(tmp_path, HELD) | {"MONITORING_DIR": "/mine", "INFERENCE_LOG_DIR": ""}
    taken = apply(env)
    assert taken == {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000", "INFERENCE_LOG_DIR": "/a folder/with = and 'quotes'"}
    assert env["MONITORING_DIR"] == "/mine"
    assert env["INFERENCE_LOG_DIR"] == taken["INFERENCE_LOG_DIR"]


@pytest.mark.parametrize("same", ["http://127.0.0.1:5000", "http://127.0.0.1:5000/", "http://localhost:5000"])
def test_the_same_tracking_server_by_another_name(tmp_path: Path, same: str) -> None:
    env = _written(tmp_path, HELD) | {"MLFLOW_TRACKING_URI": same}
    assert list(apply(env)) == ["INFERENCE_LOG_DIR"]
    assert env["MLFLOW_TRACKING_URI"] == same


@pytest.mark.parametrize("other", ["http://127.0.0.1:5001", "https://mlflow.clinic.example", "sqlite:///mlflow.db"])
def test_records_of_this_stack_never_meet_another_tracking_server(tmp_path: Path, other: str) -> None:
    env = _written(tmp_path, HELD) | {"MLFLOW_TRACKING_URI": other}
    assert apply(env) == {}
    assert "INFERENCE_LOG_DIR" not in env


def test_no_file(tmp_path: Path) -> None:
    assert apply({"SETTINGS_FILE": str(tmp_path / "missing" / "settings")}) == {}
    assert settings_file({"SETTINGS_FILE": "None"}) is None
    assert settings_file({}) == settings_file({"SETTINGS_FILE": " "}) == PROJECT / ".mlflow-local" / "settings"


@pytest.mark.parametrize("line", ["LD_PRELOAD=/tmp/x.so", "export MONITORING_DIR=x", "MONITORING_DIR", "=x"])
def test_a_line_that_no_start_wrote_is_named(tmp_path: Path, line: str) -> None:
    _written(tmp_path, f"{HELD}{line}\n")
    with pytest.raises(SettingsFileError, match=r"Line 5 of .*expected NAME=value.*SETTINGS_FILE=none"):
        read(tmp_path / "settings")


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "settings").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsFileError, match="is not text"):
        read(tmp_path / "settings")


def test_the_start_writes_the_same_names() -> None:
    script = (PROJECT / "scripts" / "processes.sh").read_text()
    (line,) = [line for line in script.splitlines() if line.strip().startswith("for name in MLFLOW_TRACKING_URI")]
    assert set(line.replace(";", " ").split()[3:-1]) == set(NAMES)
