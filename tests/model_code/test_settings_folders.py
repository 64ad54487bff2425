"""INFERENCE_LOG_DIR and its like: written out, or refused by name; never a folder that nobody meant."""

from collections.abc import Callable
from pathlib import Path

import pytest

from eye_disease.monitoring.settings import MonitoringSettings
from eye_disease.serving.settings import RegistrySettings
from model_code.errors import SettingError
from model_code.settings import ServingSettings

READERS: dict[str, tuple[str, Callable[[dict[str, str]], object]]] = {
    "serving": ("INFERENCE_LOG_DIR", lambda env: ServingSettings.from_env(env).inference_log_dir),
    "drift job": ("INFERENCE_LOG_DIR", lambda env: MonitoringSettings.from_env(env).inference_log),
    "memory": ("MONITORING_DIR", lambda env: MonitoringSettings.from_env(env).state_dir),
    "cache": ("MODEL_CACHE_DIR", lambda env: RegistrySettings.from_env(env).cache_dir),
}


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/clinic")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("~/logs", "/home/clinic/logs"),
        ("~", "/home/clinic"),
        ('"/data/eye logs"', "/data/eye logs"),
        ("'/data/logs'", "/data/logs"),
        ('"~/logs"', "/home/clinic/logs"),
        ("  /data/logs\n", "/data/logs"),
        ("/data/Prüfung/a~b", "/data/Prüfung/a~b"),
    ],
)
def test_a_folder_is_written_out(reader: str, text: str, meant: str) -> None:
    name, read = READERS[reader]
    assert str(read({name: text})) == meant


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "text",
    [
        "$HOME/logs",
        "${HOME}/logs",
        "%APPDATA%\\logs",
        "C:\\logs",
        "d:/logs",
        "~nobody-here/logs",
        '"/data/logs',
        "/data/logs'",
        "s3:/bucket",
    ],
)
def test_what_nobody_would_write_out_is_refused_by_name(reader: str, text: str) -> None:
    name, read = READERS[reader]
    with pytest.raises(SettingError, match=f"Setting {name}="):
        read({name: text})


@pytest.mark.parametrize("reader", ["serving", "memory", "cache"])
@pytest.mark.parametrize(
    "text", ["s3://key:hunter2@bucket/logs", "gs://bucket/logs", "file:///data/logs", '"s3://bucket/logs"']
)
def test_a_url_is_refused_where_files_are_appended_to_and_without_its_password(reader: str, text: str) -> None:
    name, read = READERS[reader]
    with pytest.raises(SettingError, match=f"Setting {name}=.*a folder of this machine") as refused:
        read({name: text})
    assert "hunter2" not in str(refused.value)


def test_the_drift_job_reads_a_url_and_takes_its_quotes_off() -> None:
    assert MonitoringSettings.from_env({"INFERENCE_LOG_DIR": '"s3://bucket/logs"'}).inference_log == "s3://bucket/logs"


@pytest.mark.parametrize("text", ["", '""', "  "])
def test_nothing_is_the_default(text: str) -> None:
    assert ServingSettings.from_env({"INFERENCE_LOG_DIR": text}).inference_log_dir == Path.cwd() / "inference_logs"


def test_without_a_home_folder_a_tilde_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(SettingError, match="INFERENCE_LOG_DIR"):
        ServingSettings.from_env({"INFERENCE_LOG_DIR": "~/logs"})
