"""Settings of monitoring: defaults, and what a wrong value says."""

import os
import shlex
from pathlib import Path

import pytest

from eye_disease.monitoring.settings import MonitoringSettings
from model_code.errors import SettingError


def test_defaults() -> None:
    assert MonitoringSettings.from_env({}) == MonitoringSettings(
        inference_log="inference_logs",
        state_dir=Path.cwd() / "monitoring_state",
        tracking_enabled=True,
        experiment="eye-disease-classifier",
        mlflow_timeout_seconds=10,
        health_url=None,
        alert_urls=(),
        on_raise=(),
        auto_rollback=False,
    )


def test_what_is_set_is_taken() -> None:
    env = {
        "INFERENCE_LOG_DIR": "s3://bucket/logs",
        "MONITORING_DIR": "/var/lib/monitoring",
        "ENABLE_MLFLOW_TRACKING": "false",
        "MLFLOW_EXPERIMENT_NAME": "clinic",
        "MONITORING_MLFLOW_TIMEOUT_SECONDS": "3",
        "HEALTH_CHECK_URL": "http://127.0.0.1:8080/",
    }
    assert MonitoringSettings.from_env(env) == MonitoringSettings(
        "s3://bucket/logs", Path("/var/lib/monitoring"), False, "clinic", 3, "http://127.0.0.1:8080", ()
    )


@pytest.mark.parametrize(
    "text",
    [
        "json://a/x,mailto://u:p@b?to=x,y slack://T/B/C",
        " json://a/x , mailto://u:p@b?to=x,y,slack://T/B/C,",
        "json://a/x\nmailto://u:p@b?to=x,y\nslack://T/B/C\n",
    ],
)
def test_alert_urls_are_separated_by_commas_or_spaces_and_may_hold_commas(text: str) -> None:
    expected = ("json://a/x", "mailto://u:p@b?to=x,y", "slack://T/B/C")
    assert MonitoringSettings.from_env({"ALERT_URLS": text}).alert_urls == expected


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("ENABLE_MLFLOW_TRACKING", "perhaps", "true or false"),
        ("MONITORING_MLFLOW_TIMEOUT_SECONDS", "0", "a whole number"),
        ("HEALTH_CHECK_URL", "127.0.0.1:8080", "an http:// or https:// URL"),
        ("DRIFT_AUTO_ROLLBACK", "always", "true or false"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(name: str, value: str, allowed: str) -> None:
    with pytest.raises(SettingError, match=f"Setting {name}={value!r} is not valid. Allowed: {allowed}"):
        MonitoringSettings.from_env({name: value})


def test_a_wrong_alert_url_is_named_by_its_place_since_it_may_hold_a_password() -> None:
    with pytest.raises(SettingError, match=r"ALERT_URLS='\(entry 2 of 2\)'") as caught:
        MonitoringSettings.from_env({"ALERT_URLS": "json://a hunter2"})
    assert "hunter2" not in str(caught.value)


def test_the_command_of_an_alarm_is_split_as_a_shell_would() -> None:
    env = {"DRIFT_ON_RAISE": "python retrain.py --why 'a drift'", "DRIFT_AUTO_ROLLBACK": "true"}
    settings = MonitoringSettings.from_env(env)
    assert (settings.on_raise, settings.auto_rollback) == (("python", "retrain.py", "--why", "a drift"), True)


@pytest.mark.parametrize(
    "value",
    [
        "{reason}",
        "sh -c 'echo {reason} hunter2'",
        "echo {model}-{version}",
        "echo '{{ site }}'",
        "echo {reason!r} {x:>9}",
        "echo %(reason)s",
    ],
)
def test_a_placeholder_in_the_command_is_refused_with_the_remedy(value: str) -> None:
    with pytest.raises(
        SettingError, match=r"DRIFT_ON_RAISE='\.\.\. .* \.\.\.'.*RAISED_REASON, and as JSON on its standard input"
    ) as caught:
        MonitoringSettings.from_env({"DRIFT_ON_RAISE": value})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["sh -c 'echo \"${RAISED_REASON}\" $(date +%s) {1..3}'", "find . -exec echo {} ;", "echo '{\"a\": 1}'"]
)
def test_braces_that_are_no_placeholder_are_the_users(value: str) -> None:
    env = {"DRIFT_ON_RAISE": value, "PATH": os.environ["PATH"]}
    assert MonitoringSettings.from_env(env).on_raise == tuple(shlex.split(value))


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("http://model:8080/invocations", "http://model:8080"),
        ("https://model.example/eye/invocations/", "https://model.example/eye"),
        ("http://127.0.0.1:8080/ping", "http://127.0.0.1:8080"),
        ("HTTP://[::1]:8080//", "http://[::1]:8080"),
        ("http://eve:p%40ss@model/invocations", "http://eve:p%40ss@model"),
    ],
)
def test_the_address_of_the_server_is_taken_from_what_people_paste(given: str, taken: str) -> None:
    assert MonitoringSettings.from_env({"HEALTH_CHECK_URL": given}).health_url == taken


@pytest.mark.parametrize(
    "value",
    [
        "eve:hunter2@model:8080",
        "http://eve:hun/ter2@model",
        "http://eve:hunter2#@model",
        "http://model?key=hunter2",
        "ftp://eve:hunter2@model",
        "http://eve:hunter2@",
        "http://eve:hunter2@model:99999",
        "http://eve:hunter2@[::1",
        "http://eve:hunter2@model two",
    ],
)
def test_an_address_that_is_none_is_refused_at_the_start_without_its_password(value: str) -> None:
    with pytest.raises(SettingError, match=r"HEALTH_CHECK_URL=.*not shown.*Allowed: an http:// or https:// URL") as caught:
        MonitoringSettings.from_env({"HEALTH_CHECK_URL": value})
    assert "hunter2" not in str(caught.value)
    assert "ter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("python 'hunter2", "its quotes closed"),
        ("no-such-program hunter2", r"no-such-program \.\.\.' .* on the PATH"),
        ("TOKEN=hunter2 python", r"not shown.* .* on the PATH"),
    ],
)
def test_a_wrong_command_is_named_without_its_arguments(value: str, said: str) -> None:
    with pytest.raises(SettingError, match=f"DRIFT_ON_RAISE=.*{said}") as caught:
        MonitoringSettings.from_env({"DRIFT_ON_RAISE": value})
    assert "hunter2" not in str(caught.value)
