"""What an alarm starts: when there is reason to, once, and what is told of it. The commands are real processes."""

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eye_disease.common.errors import TrackingUnavailableError
from eye_disease.monitoring import actions as acting
from eye_disease.monitoring import alerts, job
from eye_disease.monitoring.action_rules import ActionState, Request, version_fault
from eye_disease.monitoring.actions import ActionOutcome, Actions, Command, commands
from eye_disease.monitoring.job import DriftJob, Outcome
from eye_disease.monitoring.settings import MonitoringSettings
from eye_disease.monitoring.version_state import Memories, VersionMemory
from eye_disease.profiles.reference import Reference
from eye_disease.verdict.check import Check
from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.service import Health
from eye_disease.verdict.verdict import Verdict
from tests.support.drift_logs import give_reference, write_log
from tests.support.drift_records import CLASSES, make_records
from tests.support.drift_standins import Mlflow, People
from tests.support.logs import MODEL, NOON, minutes

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")
WRONG = Health(False, "The answer to the canary photo is wrong: decision is 'retake'.", 3.5, "1", wrong=True)
DOWN = Health(False, "/ping: no connection.", None, None)
WELL = Health(True, None, 3.5, "1")
LIMITS = DriftLimits()


def _check(source: str, stream: str, statistic: str, level: str = "drift") -> Check:
    return Check(source, stream, statistic, 0.6, 0.7, 90, beyond=True, level=level)


PROBE = _check("service", "probe", "failures")
BLURRED = _check("stream", "sharpness", "ks")
REALISED = _check("performance", "accuracy", "realised")


def _verdict(*checks: Check, status: str = "") -> Verdict:
    worst = "drift" if any(check.level == "drift" for check in checks) else "ok"
    return Verdict(status or worst, 90, 0, None, None, None, None, {}, checks, None)


def _due(*windows: tuple[Verdict, Health | None], raised_from: int = 2) -> list[list[str]]:
    """What is due after each window; the alarm is raised from one of them on."""
    grounds, result = ActionState(), []
    for number, (verdict, health) in enumerate(windows, start=1):
        grounds, due = grounds.after(verdict, health, "1", number >= raised_from, LIMITS)
        result.append(sorted(due))
    return result


def test_drift_of_the_answers_starts_the_command_once_while_the_alarm_lasts() -> None:
    assert _due(*[(_verdict(BLURRED), None)] * 4) == [[], ["command"], [], []]


def test_a_dead_server_starts_nothing() -> None:
    assert _due(*[(_verdict(PROBE), DOWN)] * 4) == [[]] * 4


def test_a_wrong_answer_is_confirmed_for_itself_before_it_is_rolled_back() -> None:
    """An alarm raised by something else is no confirmation, and an answer that is right again starts the count anew."""
    dark, wrong = (_verdict(BLURRED), WELL), (_verdict(BLURRED, PROBE), WRONG)
    assert _due(dark, wrong, dark, wrong, wrong, wrong) == [[], ["command"], [], [], ["rollback"], []]


def test_a_window_too_small_to_judge_changes_nothing() -> None:
    small, bad = (_verdict(status="insufficient_data"), None), (_verdict(REALISED), None)
    assert _due(bad, small, bad) == [[], [], ["command", "rollback"]]


def test_after_the_alarm_a_new_one_starts_it_again() -> None:
    grounds = ActionState(2, 0, ("command",))
    grounds, due = grounds.after(_verdict(), None, "1", False, LIMITS)
    assert (grounds, due) == (ActionState(), {})
    grounds, _ = grounds.after(_verdict(BLURRED), None, "1", False, LIMITS)
    assert list(grounds.after(_verdict(BLURRED), None, "1", True, LIMITS)[1]) == ["command"]


@pytest.mark.parametrize(
    ("verdict", "health", "said"),
    [
        (_verdict(PROBE), WRONG, "decision is 'retake'"),
        (_verdict(PROBE), replace(WRONG, model_version="2"), ""),
        (_verdict(PROBE), DOWN, ""),
        (_verdict(REALISED), WELL, "less often right"),
        (_verdict(replace(REALISED, level="warning")), None, ""),
        (_verdict(_check("performance", "accuracy", "estimated")), None, ""),
        (_verdict(_check("service", "error_code", "share"), BLURRED), None, ""),
    ],
)
def test_what_is_the_fault_of_the_version(verdict: Verdict, health: Health | None, said: str) -> None:
    fault = version_fault(verdict, health, "1")
    assert said in fault
    assert bool(said) == bool(fault)


REQUEST = Request("command", MODEL, "1", 7, "Photos are dark.")


@pytest.fixture
def actions(tmp_path: Path) -> Callable[..., Actions]:
    """Actions whose steps run a Python text."""

    def make(in_production: str | Exception | None = "1", **texts: str) -> Actions:
        def ask(model: str) -> str | None:
            if isinstance(in_production, Exception):
                raise in_production
            return in_production

        return Actions(tmp_path / "actions", {step: partial(_python, text) for step, text in texts.items()}, ask)

    return make


def _python(text: str, request: Request) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


def _settled(actions: Actions) -> list[ActionOutcome]:
    """Reports until nothing is under way, all closed."""
    result, deadline = [], time.monotonic() + 30
    while actions._open():
        for report in actions.advance(lambda model, version: True):
            actions.close(report)
            result.append(report)
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return result


def _states(reports: list[ActionOutcome]) -> list[tuple[str, str]]:
    return [(report.request.step, report.state) for report in reports]


def test_a_command_runs_in_the_background_once_with_what_it_is_for(
    actions: Callable[..., Actions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "the job's own")
    text = f"""
import json, os, sys, time
time.sleep(1)
with open({str(tmp_path / "runs")!r}, "a") as file:
    env = [os.environ.get(name) for name in ("RAISED_MODEL", "RAISED_VERSION", "RAISED_REASON", "MLFLOW_RUN_ID")]
    print(json.dumps([sys.argv[1:], env, json.load(sys.stdin)]), file=file)
print("hello")
"""
    made = actions(command=text)
    for _ in range(2):
        made.ask(REQUEST)
    (started,) = made.advance(lambda model, version: True)
    assert started.state == "started"
    assert list(made.advance(lambda model, version: True)) == []
    assert not (tmp_path / "runs").exists(), "the job does not wait for it"
    begun = json.loads((tmp_path / "actions" / REQUEST.id / "begun.json").read_text())
    assert os.getpgid(begun["pid"]) == begun["pid"] != os.getpgid(0)
    assert _states(_settled(made)) == [("command", "done")]
    made.ask(REQUEST)
    assert _settled(made) == []
    (run,) = (tmp_path / "runs").read_text().splitlines()
    assert json.loads(run) == [[], [MODEL, "1", REQUEST.reason, None], asdict(REQUEST)]
    assert (tmp_path / "actions" / REQUEST.id / "output.log").read_text() == "hello\n"


INJECTED = """x'; touch {0}; '$(touch {0})`touch {0}` | touch {0} && touch {0} "; touch {0}; " {{reason}} %s $RAISED_MODEL"""


@pytest.mark.parametrize(
    "quoted", ["'echo \"$RAISED_REASON\"'", '"echo \\"$RAISED_REASON\\""', "'cat >/dev/null; printenv RAISED_REASON'"]
)
def test_a_shell_of_the_users_gets_a_reason_as_a_variable_and_never_as_a_command(tmp_path: Path, quoted: str) -> None:
    command_line = MonitoringSettings.from_env({"DRIFT_ON_RAISE": f"sh -c {quoted}", "PATH": os.environ["PATH"]}).on_raise
    made = Actions(tmp_path / "actions", commands(command_line, False), lambda model: None)
    request = replace(REQUEST, model="m$(touch x)", reason=INJECTED.format(tmp_path / "pwned"))
    made.ask(request)
    assert _states(_settled(made)) == [("command", "started"), ("command", "done")]
    assert (tmp_path / "actions" / request.id / "output.log").read_text() == f"{request.reason}\n"
    assert not (tmp_path / "pwned").exists()


def test_a_command_that_never_reads_its_input_holds_nobody_up(actions: Callable[..., Actions]) -> None:
    made = actions(command="pass")
    made.ask(replace(REQUEST, reason="x" * 100_000))
    assert _states(_settled(made)) == [("command", "started"), ("command", "done")]


def test_the_command_line_is_not_written_to_disk(tmp_path: Path) -> None:
    """It may hold a password."""
    made = Actions(tmp_path, commands((sys.executable, "-c", "pass", "--token=hunter2"), False), lambda model: None)
    made.ask(REQUEST)
    assert _states(_settled(made)) == [("command", "started"), ("command", "done")]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "hunter2" in path.read_text()]


def test_what_an_older_job_has_kept_runs_the_command_that_is_set_now(actions: Callable[..., Actions], tmp_path: Path) -> None:
    folder = tmp_path / "actions" / REQUEST.id
    folder.mkdir(parents=True)
    stored = {"command": ["touch", str(tmp_path / "pwned")], "env": {}, "without": [], "timeout": 5, "request": asdict(REQUEST)}
    (folder / "request.json").write_text(json.dumps(stored))
    assert _states(_settled(actions(command="print('now')"))) == [("command", "started"), ("command", "done")]
    assert (folder / "output.log").read_text() == "now\n"
    assert not (tmp_path / "pwned").exists()


def test_a_setting_that_is_taken_back_drops_what_waits(actions: Callable[..., Actions]) -> None:
    actions(command="pass").ask(REQUEST)
    (dropped,) = _settled(actions())
    assert (dropped.state, dropped.sentence) == ("dropped", "DRIFT_ON_RAISE was unset before this started.")


def test_two_commands_run_one_after_the_other(actions: Callable[..., Actions], tmp_path: Path) -> None:
    times = tmp_path / "times"
    text = f"import time; f = open({str(times)!r}, 'a', 1); f.write('begin\\n'); time.sleep(0.3); f.write('end\\n')"
    made = actions(command=text)
    made.ask(REQUEST)
    made.ask(replace(REQUEST, version="2"))
    assert _states(_settled(made)) == [("command", state) for state in ("started", "done") * 2]
    assert times.read_text().split() == ["begin", "end"] * 2


def test_a_failure_is_told_with_its_status_and_not_tried_again(actions: Callable[..., Actions]) -> None:
    made = actions(command="raise SystemExit(4)")
    made.ask(REQUEST)
    _, failed = _settled(made)
    assert (failed.state, "exit status 4" in failed.sentence) == ("failed", True)


def test_a_program_that_is_gone_is_a_failure(tmp_path: Path) -> None:
    made = Actions(tmp_path, commands(("/no/such/program",), False), lambda model: None)
    made.ask(REQUEST)
    assert "exit status 127" in _settled(made)[-1].sentence
    assert "No such file" in (tmp_path / REQUEST.id / "output.log").read_text()


def test_what_cannot_be_launched_is_tried_again_by_the_next_run(
    actions: Callable[..., Actions], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = actions(command="pass")
    made.ask(REQUEST)
    with monkeypatch.context() as patch:
        patch.setattr("eye_disease.monitoring.run_command.__file__", "/no/such/run_command.py")
        assert list(made.advance(lambda model, version: True)) == []
    assert "was not started" in caplog.text
    assert _states(_settled(made)) == [("command", "started"), ("command", "done")]


def test_a_command_that_hangs_is_ended(
    actions: Callable[..., Actions], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(acting._TIMEOUTS, "rollback", 0.3)
    made = actions(rollback="import time; time.sleep(60)")
    made.ask(replace(REQUEST, step="rollback"))
    assert "exit status 124" in _settled(made)[-1].sentence


def test_a_command_that_was_killed_is_broken_off_and_not_started_again(actions: Callable[..., Actions], tmp_path: Path) -> None:
    made = actions(command="import time; time.sleep(60)")
    made.ask(REQUEST)
    assert [report.state for report in made.advance(lambda model, version: True)] == ["started"]
    begun = tmp_path / "actions" / REQUEST.id / "begun.json"
    os.killpg(json.loads(begun.read_text())["pid"], signal.SIGKILL)
    (broken,) = _settled(made)
    assert (broken.state, "interrupted" in broken.sentence) == ("failed", True)


def test_what_has_begun_is_not_begun_again_though_the_job_was_killed_before_noting_it(
    actions: Callable[..., Actions], tmp_path: Path
) -> None:
    made = actions(command=f"open({str(tmp_path / 'runs')!r}, 'a').write('x')")
    made.ask(REQUEST)
    for _ in range(3):
        made._launch(REQUEST, "background")
    _settled(made)
    assert (tmp_path / "runs").read_text() == "x"


def test_a_request_whose_alarm_is_over_is_dropped(actions: Callable[..., Actions], tmp_path: Path) -> None:
    made = actions(command="pass")
    made.ask(REQUEST)
    with (tmp_path / "actions" / "command.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert list(made.advance(lambda model, version: True)) == []
    (dropped,) = made.advance(lambda model, version: False)
    assert (dropped.state, dropped.sentence) == ("dropped", "The alarm cleared before this started.")


def test_only_the_version_in_production_is_rolled_back(actions: Callable[..., Actions], tmp_path: Path) -> None:
    request = replace(REQUEST, step="rollback")
    text = f"open({str(tmp_path / 'runs')!r}, 'a').write('x')"
    made = actions("2", rollback=text)
    made.ask(request)
    assert [(outcome.state, outcome.sentence) for outcome in _settled(made)] == [
        ("dropped", "Version 1 is not in Production (2 is).")
    ]
    assert not (tmp_path / "runs").exists()


def test_a_roll_back_waits_for_the_registry(
    actions: Callable[..., Actions], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    request = replace(REQUEST, step="rollback")
    text = f"open({str(tmp_path / 'runs')!r}, 'a').write('x')"
    away = actions(TrackingUnavailableError("no connection"), rollback=text)
    away.ask(request)
    assert list(away.advance(lambda model, version: True)) == []
    assert "cannot be rolled back yet: no connection" in caplog.text
    assert _states(_settled(actions("1", rollback=text))) == [("rollback", "done")]
    assert (tmp_path / "runs").read_text() == "x"


def test_nothing_is_on_unless_it_is_asked_for(actions: Callable[..., Actions], tmp_path: Path) -> None:
    assert commands((), False) == {}
    made = actions()
    made.ask(REQUEST)
    assert list(made.advance(lambda model, version: True)) == []
    assert not (tmp_path / "actions").exists()


def test_the_roll_back_is_the_command_of_register_py() -> None:
    command = commands((), True)["rollback"](replace(REQUEST, reason="--force 'x'"))
    assert command[:3] == (sys.executable, "-m", "eye_disease")
    assert command[3:] == ("rollback", f"--name={MODEL}", "--version=1", "--reason=--force 'x'")


def test_the_memory_of_an_older_job_is_read(tmp_path: Path) -> None:
    memories = Memories(tmp_path)
    memory = VersionMemory(windows=3, grounds=ActionState(1, 2, ("command",)), due=(REQUEST,))
    memories.save(MODEL, "1", memory)
    assert memories.read(MODEL, "1") == memory
    file = tmp_path / "versions" / MODEL / "1.json"
    stored = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in stored.items() if name not in ("grounds", "due")}))
    assert memories.read(MODEL, "1") == VersionMemory(windows=3)


class World:
    """A log that drifts, a served model as one likes it, and those the job tells."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.log, self.state, self.now = folder / "log", folder / "state", NOON
        self.mlflow, self.people, self.health = Mlflow(), People(), WELL
        values = {"INFERENCE_LOG_DIR": str(self.log), "MONITORING_DIR": str(self.state), "ALERT_URLS": "json://127.0.0.1:9"}
        self.settings = MonitoringSettings.from_env(values | {"HEALTH_CHECK_URL": "http://127.0.0.1:9"} | env)

    def run(self, seed: int, **changes: Any) -> Outcome:
        records = make_records(60, seed, **changes).drop_columns([f"embedding_{i}" for i in range(1, 17)])
        write_log(self.log, records, self.now - minutes(10), f"p{self.now:%H%M}")
        (outcome,) = DriftJob(self.settings, LIMITS, lambda: self.mlflow, now=lambda: self.now).run()
        self.now += minutes(15)
        return outcome

    def tags(self, name: str) -> list[str]:
        result = [waiting.batch.run_tags.get(name) for waiting, _, _ in self.mlflow.batches.values()]
        return [tag.split()[0] for tag in result if tag]


@pytest.fixture(scope="module")
def reference() -> Reference:
    records = make_records(300, seed=1).drop_columns([f"embedding_{i}" for i in range(1, 17)])
    return Reference.build(records, CLASSES, "validation", MODEL)


@pytest.fixture
def world(tmp_path: Path, reference: Reference, monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    def make(**env: str) -> World:
        made = World(tmp_path, **env)
        give_reference(made.state, reference)
        monkeypatch.setattr(alerts, "_service", lambda number, url: made.people)
        monkeypatch.setattr(job, "probe_served", lambda *arguments: ((MODEL, "1"), made.health))
        return made

    monkeypatch.setattr(job, "make_report", lambda result: {})
    monkeypatch.setattr(job, "version_in_production", lambda model, timeout_seconds: "1")
    return make


def test_the_job_starts_the_command_once_an_alarm_and_tells_what_came_of_it(
    world: Callable[..., World], tmp_path: Path
) -> None:
    text = f"open({str(tmp_path / 'runs')!r}, 'a').write('x')"
    made = world(DRIFT_ON_RAISE=f'{sys.executable} -c "{text}"')
    output = []
    for seed in range(4):
        output.append(str(made.run(seed, sharpness=0.5)))
        deadline = time.monotonic() + 20
        while seed == 1 and not list((made.state / "actions").glob("*/ended.json")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert [("command started" in text, "command done: It succeeded" in text) for text in output] == [
        (False, False),
        (True, False),
        (False, True),
        (False, False),
    ]
    assert (tmp_path / "runs").read_text() == "x"
    assert made.tags("drift_command") == ["started", "done"]
    assert [title for title, _ in made.people.told] == [
        f"Drift: {MODEL} version 1",
        f"Command finished: {MODEL} version 1",
    ]


def test_the_job_rolls_a_version_back_once_that_answers_wrongly(
    world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recorded(on_raise: tuple[str, ...], auto_rollback: bool) -> dict[str, Command]:
        real = commands(on_raise, auto_rollback)["rollback"]
        text = f"import sys; print(sys.argv[1:], file=open({str(tmp_path / 'runs')!r}, 'a'))"
        return {"rollback": lambda request: (sys.executable, "-c", text, *real(request)[3:])}

    monkeypatch.setattr(job, "commands", recorded)
    made = world(DRIFT_AUTO_ROLLBACK="true")
    made.health = DOWN
    for seed in range(2):
        made.run(seed)
    assert [title for title, _ in made.people.told] == [f"Drift: {MODEL} version 1"]
    assert not (tmp_path / "runs").exists(), "a server that is down is not the version's fault"
    made.health = WRONG
    output = [str(made.run(seed)) for seed in range(2, 5)]
    assert ["rollback done" in text for text in output] == [False, True, False]
    (run,) = (tmp_path / "runs").read_text().splitlines()
    assert run == str(["rollback", f"--name={MODEL}", "--version=1", f"--reason={WRONG.reason}"])
    assert made.tags("drift_rollback") == ["done"]
    title, body = made.people.told[-1]
    assert title == f"Rolled back: {MODEL} version 1"
    assert "restart it" in body
    assert WRONG.reason in body


def test_without_the_settings_a_wrong_version_is_only_told_of(world: Callable[..., World]) -> None:
    made = world()
    made.health = WRONG
    for seed in range(3):
        made.run(seed, sharpness=0.5)
    assert [title for title, _ in made.people.told] == [f"Drift: {MODEL} version 1"]
    assert not (made.state / "actions").exists()
    assert made.tags("drift_rollback") == made.tags("drift_command") == []
