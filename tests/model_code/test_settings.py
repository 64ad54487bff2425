import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from model_code.errors import SettingError
from model_code.setting_fields import read_bool, read_int
from model_code.settings import PILLOW_MAX_PIXELS, ServingSettings
from tests.support.photos import PROJECT

NUMBERS = ("MAX_IMAGE_BYTES", "MAX_IMAGE_PIXELS", "MAX_REQUEST_ROWS", "INFERENCE_THREADS")


def test_every_setting_has_a_safe_default() -> None:
    settings = ServingSettings.from_env({})
    assert settings.inference_log_dir == Path.cwd() / "inference_logs"
    assert settings.inference_log_required is False
    assert settings.max_image_bytes == 20 * 2**20
    assert settings.max_image_pixels == 50_000_000
    assert settings.max_request_rows == 1000
    assert 1 <= settings.inference_threads <= 8
    assert settings.model_source == "direct"
    assert settings.model_role == "champion"
    assert (settings.decode_timeout_seconds, settings.max_wait_seconds) == (10, 30)


def test_every_setting_is_read() -> None:
    env = {
        "INFERENCE_LOG_DIR": "/var/log/eye",
        "INFERENCE_LOG_REQUIRED": "true",
        "MAX_IMAGE_BYTES": "1000",
        "MAX_IMAGE_PIXELS": "2000",
        "MAX_REQUEST_ROWS": " 3 ",
        "INFERENCE_THREADS": "4",
        "MODEL_SOURCE": "cache",
        "MODEL_ROLE": "Shadow",
        "DECODE_TIMEOUT_SECONDS": "2.5",
        "MAX_WAIT_SECONDS": "20",
    }
    expected = ServingSettings(Path("/var/log/eye"), True, 1000, 2000, 3, 4, "cache", "shadow", 2.5, 20.0)
    assert ServingSettings.from_env(env) == expected


@pytest.mark.parametrize(("name", "allowed"), [("DECODE_TIMEOUT_SECONDS", "0.1 to 600"), ("MAX_WAIT_SECONDS", "0.1 to 3600")])
def test_a_wrong_time_is_named_with_what_is_allowed(name: str, allowed: str) -> None:
    for wrong in ("0", "-1", "nan", "soon", "1e9"):
        with pytest.raises(SettingError, match=f"{name}='{wrong}' is not valid. Allowed: a number, {allowed}"):
            ServingSettings.from_env({name: wrong})


def test_empty_settings_mean_their_defaults() -> None:
    names = (*NUMBERS, "INFERENCE_LOG_DIR", "INFERENCE_LOG_REQUIRED", "MODEL_SOURCE", "MODEL_ROLE")
    assert ServingSettings.from_env(dict.fromkeys(names, "")) == ServingSettings.from_env({})


def test_the_process_environment_is_read_unless_another_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_REQUEST_ROWS", "17")
    assert ServingSettings.from_env().max_request_rows == 17
    assert ServingSettings.from_env({}).max_request_rows == 1000


def test_a_relative_log_folder_is_kept_when_the_working_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ServingSettings.from_env({"INFERENCE_LOG_DIR": "logs"})
    before = Path.cwd()
    monkeypatch.chdir(tmp_path)
    assert settings.inference_log_dir == before / "logs"


@pytest.mark.parametrize("wrong", ["0", "-1", "--5", "-", "1.5", "1e6", "ten", "1_000", "0x10", "5 6", "+5"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_wrong_number_is_named_with_its_value_and_what_is_allowed(name: str, wrong: str) -> None:
    allowed = f"1 to {PILLOW_MAX_PIXELS}" if name == "MAX_IMAGE_PIXELS" else "1 or more"
    with pytest.raises(SettingError) as refused:
        ServingSettings.from_env({name: wrong})
    assert str(refused.value) == f"Setting {name}={wrong!r} is not valid. Allowed: a whole number, {allowed}."


@pytest.mark.parametrize("wrong", ["maybe", "2", "t", "yes!", "none"])
def test_a_wrong_switch_is_named_with_its_value_and_what_is_allowed(wrong: str) -> None:
    with pytest.raises(SettingError) as refused:
        ServingSettings.from_env({"INFERENCE_LOG_REQUIRED": wrong})
    assert str(refused.value) == f"Setting INFERENCE_LOG_REQUIRED={wrong!r} is not valid. Allowed: true or false."


def test_a_role_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(SettingError) as refused:
        ServingSettings.from_env({"MODEL_ROLE": "canary"})
    assert str(refused.value) == "Setting MODEL_ROLE='canary' is not valid. Allowed: champion, challenger, shadow."


def test_a_wrong_setting_is_a_value_error() -> None:
    assert issubclass(SettingError, ValueError)


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("1", True), ("YES", True), (" on ", True), ("False", False), ("0", False), ("no", False), ("off", False)],
)
def test_switches_are_read_in_their_common_forms(text: str, value: bool) -> None:
    assert read_bool({"X": text}, "X", default=not value) is value


@pytest.mark.parametrize("default", [True, False])
def test_a_switch_that_is_not_set_has_its_default(default: bool) -> None:
    assert read_bool({}, "X", default) is default
    assert read_bool({"X": " "}, "X", default) is default


def test_a_number_may_have_a_maximum() -> None:
    assert read_int({"X": "9"}, "X", 5, maximum=9) == 9
    with pytest.raises(SettingError, match="a whole number, 1 to 9"):
        read_int({"X": "10"}, "X", 5, maximum=9)


def test_the_limit_of_pixels_stays_within_that_of_pillow() -> None:
    assert PILLOW_MAX_PIXELS == Image.MAX_IMAGE_PIXELS
    with pytest.raises(SettingError, match=f"1 to {PILLOW_MAX_PIXELS}"):
        ServingSettings.from_env({"MAX_IMAGE_PIXELS": str(PILLOW_MAX_PIXELS + 1)})


def test_no_more_photos_are_worked_on_at_a_time_than_there_are_processors() -> None:
    assert ServingSettings.from_env({}).inference_threads <= (os.cpu_count() or 1)


@pytest.mark.parametrize("first", ["eye_disease.serving.settings", "eye_disease.serving.resolve", "model_code.schema"])
def test_usage_reports_of_mlflow_are_off_before_it_is_imported(first: str) -> None:
    code = f"import {first}; from mlflow.telemetry.utils import is_telemetry_disabled; print(is_telemetry_disabled())"
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}  # a CI's or pytest's would turn them off
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
