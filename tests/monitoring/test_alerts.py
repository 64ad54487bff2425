"""Alerts reach every URL once, in order, whatever fails in between."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from eye_disease.monitoring.alerts import Alert, AlertOutbox
from model_code.errors import SettingError
from tests.support.servers import free_port

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RAISED = Alert(
    "raised",
    "eye-disease-classifier",
    "3",
    "2026-03-01 10:00 to 12:00 UTC",
    "The photos are darker than those the model learned from.",
    "Check the camera of clinic-a, then retrain or roll back.",
    "http://mlflow/report",
)
CLEARED = replace(RAISED, event="cleared", window="2026-03-01 18:00 to 20:00 UTC", problem="All is well.", action="Do nothing.")


class Receiver:
    """What a webhook got, and the status it answers with."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if receiver.status == 200:
                    receiver.got.append(body)
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://127.0.0.1:{self.server.server_address[1]}/hook?token=secret-token"

    def titles(self) -> list[str]:
        return [alert["title"] for alert in self.got]


@pytest.fixture
def receivers() -> Iterator[list[Receiver]]:
    made = [Receiver(), Receiver()]
    threads = [Thread(target=receiver.server.serve_forever, args=(0.05,)) for receiver in made]
    for thread in threads:
        thread.start()
    yield made
    for receiver, thread in zip(made, threads, strict=True):
        receiver.server.shutdown()
        receiver.server.server_close()
        thread.join()


def test_an_alert_arrives_once_and_says_what_where_and_what_to_do(tmp_path: Path, receivers: list[Receiver]) -> None:
    for _ in range(3):
        outbox = AlertOutbox(tmp_path, (receivers[0].url,))
        outbox.put(RAISED, NOW)
        assert outbox.deliver(NOW) == 0
    (got,) = receivers[0].got
    assert got["title"] == "Drift: eye-disease-classifier version 3"
    assert got["type"] == "failure"
    assert got["message"].splitlines() == [
        "The photos are darker than those the model learned from. Check the camera of clinic-a, then retrain or roll back.",
        "",
        "Model: eye-disease-classifier, version 3",
        "Window: 2026-03-01 10:00 to 12:00 UTC",
        "Report: http://mlflow/report",
    ]


def test_the_end_is_told_too(tmp_path: Path, receivers: list[Receiver]) -> None:
    outbox = AlertOutbox(tmp_path, (receivers[0].url,))
    for alert in (RAISED, CLEARED):
        outbox.put(alert, NOW)
        outbox.deliver(NOW)
    assert [(receiver["title"].partition(":")[0], receiver["type"]) for receiver in receivers[0].got] == [
        ("Drift", "failure"),
        ("Drift cleared", "success"),
    ]
    assert "Report" not in replace(CLEARED, report_url=None).body


def test_what_fails_waits_for_the_next_run_and_others_are_told_at_once(tmp_path: Path, receivers: list[Receiver]) -> None:
    outbox = AlertOutbox(tmp_path, tuple(receiver.url for receiver in receivers))
    receivers[0].status = 500
    outbox.put(RAISED, NOW)
    outbox.put(CLEARED, NOW + timedelta(hours=6))
    assert outbox.deliver(NOW) == 2
    assert (len(receivers[0].got), len(receivers[1].got)) == (0, 2)
    receivers[0].status = 200
    again = AlertOutbox(tmp_path, tuple(receiver.url for receiver in receivers))
    assert [again.deliver(NOW), again.deliver(NOW)] == [0, 0]
    expected = [alert.title for alert in (RAISED, CLEARED)]
    assert [receiver.titles() for receiver in receivers] == [expected, expected]


def test_a_dead_receiver_does_not_stop_the_run(tmp_path: Path, receivers: list[Receiver]) -> None:
    outbox = AlertOutbox(tmp_path, (f"json://127.0.0.1:{free_port()}", receivers[0].url))
    outbox.put(RAISED, NOW)
    assert outbox.deliver(NOW) == 1
    assert receivers[0].titles() == [RAISED.title]


def test_a_url_that_is_no_longer_set_is_forgotten(tmp_path: Path, receivers: list[Receiver]) -> None:
    receivers[0].status = 500
    outbox = AlertOutbox(tmp_path, (receivers[0].url,))
    outbox.put(RAISED, NOW)
    assert outbox.deliver(NOW) == 1
    assert AlertOutbox(tmp_path, (receivers[1].url,)).deliver(NOW) == 0
    assert receivers[1].got == []


def test_after_a_week_an_alert_is_given_up_and_said_so(
    tmp_path: Path, receivers: list[Receiver], caplog: pytest.LogCaptureFixture
) -> None:
    receivers[0].status = 500
    outbox = AlertOutbox(tmp_path, (receivers[0].url,))
    outbox.put(RAISED, NOW)
    assert outbox.deliver(NOW + timedelta(days=6)) == 1
    assert outbox.deliver(NOW + timedelta(days=8)) == 0
    assert "given up: Drift: eye-disease-classifier version 3" in caplog.text


def test_without_urls_the_alert_is_logged(tmp_path: Path, receivers: list[Receiver], caplog: pytest.LogCaptureFixture) -> None:
    AlertOutbox(tmp_path, ()).put(RAISED, NOW)
    assert "The photos are darker" in caplog.text
    assert AlertOutbox(tmp_path, (receivers[0].url,)).deliver(NOW) == 0
    assert receivers[0].got == []


def test_no_url_is_written_to_disk_or_to_the_log(
    tmp_path: Path, receivers: list[Receiver], caplog: pytest.LogCaptureFixture
) -> None:
    receivers[0].status = 500
    outbox = AlertOutbox(tmp_path, (receivers[0].url,))
    outbox.put(RAISED, NOW)
    outbox.deliver(NOW)
    assert "secret-token" not in "".join(path.read_text() for path in tmp_path.rglob("*.json")) + caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "slack://hunter2",
        "hunter2-hunter2-hunter2://T1/B2/C3",
        "json://eve:hunter2@[::1",
        "json://eve:hunter2@host:port:port",
        "mailto://eve:hunter2",
        "tgram://hunter2",
        "hassio://host/hunter2/",
        "discord://hunter2",
        "https://hooks.slack.com/services/hunter2",
    ],
)
def test_a_mistyped_url_is_shown_whole_by_nobody(url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Apprise itself logs what it cannot read, token and all."""
    with caplog.at_level(logging.DEBUG):
        try:
            outbox = AlertOutbox(tmp_path, (url,))
        except SettingError as error:
            assert "hunter2" not in str(error)
            assert "entry 1" in str(error)
        else:
            assert outbox.deliver(NOW) == 0
    assert "hunter2" not in caplog.text


def test_what_fails_is_told_with_its_status_alone(
    tmp_path: Path, receivers: list[Receiver], caplog: pytest.LogCaptureFixture
) -> None:
    receivers[0].status = 503
    urls = (receivers[0].url, f"json://eve:hunter2@127.0.0.1:{free_port()}/hunter2?token=hunter2")
    outbox = AlertOutbox(tmp_path, urls)
    outbox.put(RAISED, NOW)
    with caplog.at_level(logging.DEBUG, logger="apprise"):
        outbox.deliver(NOW)
    assert [line for line in caplog.messages if "not delivered" in line] == [
        f"An alert was not delivered and waits for the next run: {RAISED.title} (JSON: HTTP status 503)",
        f"An alert was not delivered and waits for the next run: {RAISED.title} (JSON: no connection, or it was refused)",
    ]
    assert "hunter2" not in caplog.text
    assert "secret-token" not in caplog.text


def test_a_service_that_shows_html_gets_text(tmp_path: Path, receivers: list[Receiver]) -> None:
    outbox = AlertOutbox(tmp_path, (f"{receivers[0].url}&format=html",))
    outbox.put(replace(RAISED, problem="Sites <b>a</b> & b differ."), NOW)
    assert outbox.deliver(NOW) == 0
    (got,) = receivers[0].got
    assert "&lt;b&gt;a&lt;/b&gt;" in got["message"]


def test_a_wrong_url_is_named_without_its_secrets() -> None:
    with pytest.raises(SettingError, match=r"ALERT_URLS='\(entry 2, nonsense://\.\.\.\)' is not valid") as caught:
        AlertOutbox(Path("unused"), ("json://localhost", "nonsense://user:password@host"))
    assert "password" not in str(caught.value)
