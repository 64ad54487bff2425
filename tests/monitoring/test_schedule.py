"""One run at a time; the beat is kept, whatever a run does; it ends when asked to."""

import os
import signal
import subprocess
import sys
import threading
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

from eye_disease.common.errors import BusyError
from eye_disease.common.lock import only_run
from eye_disease.monitoring.schedule import parse_interval, run_every, stop_on_signals
from tests.support.servers import PROJECT, environment

_HOLD = """
import sys, time
from pathlib import Path
from eye_disease.common.lock import only_run
with only_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
_TICK = """
import logging, sys
from eye_disease.monitoring.schedule import run_every, stop_on_signals
logging.basicConfig(level=logging.INFO)
def run():
    print("run", flush=True)
    sys.stdin.readline()
    print("done", flush=True)
with stop_on_signals() as stop:
    run_every(3600, run, stop)
print("stopped", flush=True)
"""


def _child(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=PROJECT, env=environment(), stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_a_second_run_is_refused_and_told_who_is_at_work(tmp_path: Path) -> None:
    with _child(_HOLD, str(tmp_path / "state")) as other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(BusyError, match=rf"Another run is in progress \(process {other.pid} holds .*lock\)"),
            only_run(tmp_path / "state"),
        ):
            raise AssertionError("two runs at a time")
        other.kill()
    with only_run(tmp_path / "state"):
        assert (tmp_path / "state" / "lock").read_text() == f"{os.getpid()}\n"


def test_the_lock_is_free_after_a_run_whatever_its_end(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), only_run(tmp_path):
            _ = 1 / 0


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), (" 1h ", 3600), ("2d", 172_800)])
def test_intervals(text: str, seconds: float) -> None:
    assert parse_interval(text) == seconds


@pytest.mark.parametrize("text", ["", "15", "m", "0m", "-5m", "1.5h", "15 minutes"])
def test_what_is_no_interval(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an interval\. Expected"):
        parse_interval(text)


class Beat(threading.Event):
    """A clock that only moves when something waits on it; `stop` after so many waits."""

    def __init__(self, waits: int) -> None:
        super().__init__()
        self.time = 1000.0
        self._left = waits

    def wait(self, timeout: float | None = None) -> bool:
        self.time += timeout
        self._left -= 1
        if self._left == 0:
            self.set()
        return self.is_set()


def test_the_beat_is_kept_and_runs_that_take_too_long_let_beats_go_by() -> None:
    beat, started = Beat(4), []
    lasts = iter([10.0, 0.0, 150.0, 1.0])

    def run() -> None:
        started.append(beat.time - 1000)
        beat.time += next(lasts)

    run_every(60, run, beat, clock=lambda: beat.time)
    assert started == [0, 60, 120, 300]


def test_a_failed_run_or_a_busy_one_does_not_end_the_schedule(caplog: pytest.LogCaptureFixture) -> None:
    beat, failures = Beat(3), [ValueError("broken data"), BusyError("Another run is in progress"), None]

    def run() -> None:
        if error := failures.pop(0):
            raise error

    run_every(60, run, beat, clock=lambda: beat.time)
    assert failures == []
    assert "broken data" in caplog.text
    assert "Another run is in progress" in caplog.text


def test_one_that_is_stopped_already_does_not_run() -> None:
    stop = threading.Event()
    stop.set()
    run_every(60, lambda: pytest.fail("ran"), stop)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_run_at_work_finish(number: signal.Signals) -> None:
    with _child(_TICK) as child:
        assert child.stdout.readline() == "run\n"
        child.send_signal(number)
        while "stopping after the run in progress" not in child.stderr.readline():
            assert child.poll() is None
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.read() == "done\nstopped\n"
        assert child.wait() == 0


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    with _child(_TICK) as child:
        assert child.stdout.readline() == "run\n"
        child.send_signal(signal.SIGINT)
        while "stopping after the run in progress" not in child.stderr.readline():
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        assert child.wait() != 0
        assert "stopped" not in child.stdout.read()


def _deployed(name: str) -> str:
    return (PROJECT / "deploy" / name).read_text()


def test_every_scheduler_runs_the_same_command_at_the_same_beat() -> None:
    cronjob = yaml.safe_load(_deployed("kubernetes/drift-job.yaml"))["spec"]
    (container,) = cronjob["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "drift_job.py", "run"]
    assert cronjob["concurrencyPolicy"] == "Forbid"
    (crontab,) = [line for line in _deployed("drift-job.crontab").splitlines() if not line.startswith("#")]
    assert crontab.startswith(cronjob["schedule"])
    assert "python drift_job.py run" in crontab
    service, timer = ConfigParser(), ConfigParser()
    service.read_string(_deployed("drift-job.service"))
    timer.read_string(_deployed("drift-job.timer"))
    assert service["Service"]["ExecStart"].endswith("python drift_job.py run")
    assert service["Service"]["SuccessExitStatus"] == str(BusyError.exit_status)
    assert timer["Timer"]["OnCalendar"] == "*:0/15"


def test_the_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(10)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
