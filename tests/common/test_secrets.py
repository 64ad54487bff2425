"""A secret is in nothing that is shown, wherever it was set and however an error quotes it."""

import logging
import subprocess
import sys

import pytest

from eye_disease.common.secrets import SecretsHidden, hide_secrets, split_login


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://eve:hunter2@mlflow:5000/#/x", "http://mlflow:5000/#/x"),
        ("'https://eve:hun@ter/2@mlflow' and postgresql://u:hunter2@db/x", "'https://mlflow' and postgresql://db/x"),
        ("s3://AKIA123:hunter2@bucket/logs", "s3://bucket/logs"),
        ("http://token-hunter2@host", "http://host"),
        ("http://mlflow:5000/a, mail to a@b.example", "http://mlflow:5000/a, mail to a@b.example"),
        ("no address at all: a@b", "no address at all: a@b"),
    ],
)
def test_an_address_is_shown_without_its_login(text: str, shown: str) -> None:
    assert hide_secrets(text, {}) == shown


@pytest.mark.parametrize(
    "name", ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "MY_API_KEY"]
)
def test_the_value_of_a_setting_is_hidden_in_every_form(name: str) -> None:
    env = {name: " hunt er/2\n", "HOME": "/home/eve"}
    assert hide_secrets("'Bearer hunt er/2\\n', hunt%20er%2F2, /home/eve", env) == "'Bearer ***\\n', ***, /home/eve"


def test_no_alert_url_is_shown() -> None:
    env = {"ALERT_URLS": "slack://T1AAAA/B2BBBB/C3CCCC, mailto://eve:hunter2@example.com"}
    assert (
        hide_secrets("failed: https://T1AAAA/B2BBBB/C3CCCC and slack://T1AAAA/B2BBBB/C3CCCC", env)
        == "failed: https://*** and ***"
    )


def test_a_short_value_makes_no_holes() -> None:
    assert hide_secrets("a test", {"AWS_SECRET_ACCESS_KEY": "test", "X_TOKEN": ""}) == "a test"


def test_a_login_becomes_a_header() -> None:
    assert split_login("http://model:8080/x") == ("http://model:8080/x", None)
    assert split_login("https://eve:p%40ss@[::1]:8080/x") == ("https://[::1]:8080/x", "Basic ZXZlOnBAc3M=")


def test_a_log_line_is_one_line_without_secrets(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hunter2")
    caplog.handler.addFilter(hide := SecretsHidden())
    try:
        try:
            raise ValueError("hunter2")
        except ValueError:
            logging.getLogger("any").exception("from %s\nERROR: forged", "http://a:b@host")
    finally:
        caplog.handler.removeFilter(hide)
    assert caplog.messages == ["from http://host ERROR: forged"]
    assert "hunter2" not in caplog.text
    assert "ValueError: ***" in caplog.text


def test_a_traceback_has_none_either() -> None:
    text = """
import threading
from eye_disease.common.secrets import hide_everywhere
hide_everywhere()
def fail():
    raise ValueError("http://eve:hunter2@host and hunter2x")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
fail()
"""
    env = {"A_TOKEN": "hunter2x"}
    done = subprocess.run(
        [sys.executable, "-c", text.replace("hunter2x", "hunter" + "2x")], env=env, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.count("ValueError: http://host and ***") == 2
