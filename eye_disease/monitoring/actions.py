"""What an alarm starts beside telling people: a command of the user's, and the roll back of a version that is at fault.

<folder>/<id>/request.json   what is to be done, and why
<folder>/<id>/begun.json     and ended.json: see `eye_disease.monitoring.run_command`
<folder>/<id>/output.log     all that the command printed
<folder>/<id>/closed.json    what came of it, once it was reported
<folder>/<step>.lock         held while a command of this kind runs

Each request is run once, whatever is killed and when: with `begun.json` there it is never started again.

A reason holds what clients wrote, so it is never a part of a command line that the user gave: that command gets it in its
environment and on its standard input. The command line itself may hold a password and is not written to disk.
"""

import fcntl
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from eye_disease.common.errors import TrackingUnavailableError
from eye_disease.common.paths import IMPORT_ROOT
from eye_disease.common.secrets import hide_secrets
from eye_disease.common.text import clean, one_line
from eye_disease.monitoring import run_command
from eye_disease.monitoring.action_rules import Request, Step
from eye_disease.records.state_file import StateFileError, read_bytes, set_aside
from eye_disease.records.storage import Storage

_logger = logging.getLogger(__name__)
_HOURS = 3600
_TIMEOUTS: dict[Step, int] = {"command": 48 * _HOURS, "rollback": 600}
"""Seconds after which a command is ended: one that hangs would hold up the next."""
_SETTINGS: dict[Step, str] = {"command": "DRIFT_ON_RAISE", "rollback": "DRIFT_AUTO_ROLLBACK"}
_SHOWN_LINES = 2
_OF_ANOTHER_RUN = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")
"""Set by `mlflow run`: a command must not write into the drift job's own run."""

Command = Callable[[Request], Sequence[str]]
"""The command line for a request: a program and its arguments, which no shell sees."""


@dataclass(frozen=True)
class ActionOutcome:
    """What has become of a request since the last run of the job."""

    request: Request
    state: Literal["started", "done", "failed", "dropped"]
    sentence: str
    """What came of it, in a sentence"""

    def __str__(self) -> str:
        return f"{self.request.step} {self.state}: {self.sentence}"


class Actions:
    """In a local folder; one process at a time.

    commands: what each step runs for a request; a step without a command is never asked for.
    in_production: the version of a model that the registry holds there, or None. Raises TrackingUnavailableError.
    """

    def __init__(self, folder: Path, commands: Mapping[Step, Command], in_production: Callable[[str], str | None]) -> None:
        self._folder, self._commands, self._in_production = folder, commands, in_production
        self._files = Storage(str(folder))

    def ask(self, request: Request) -> None:
        """Keep a request; nothing happens for one that was kept before, or whose step is not switched on."""
        if request.step not in self._commands or (self._folder / request.id / "request.json").exists():
            return
        self._write(request.id, "request", {"request": asdict(request)})

    def advance(self, is_raised: Callable[[str, str], bool]) -> Iterator[ActionOutcome]:
        """Start what may start and notice what has ended. The caller reports each outcome, then calls `close`.

        is_raised: of (model, version); a request that has waited until the alarm was over is dropped.
        """
        for request in self._open():
            busy = self._is_busy(request.step)  # before looking for the end, which is written while the lock is held
            if self._read(request.id, "ended") is not None:
                yield self._ended(request)
            elif self._read(request.id, "begun") is not None:
                if not busy:
                    yield ActionOutcome(request, "failed", f"It was interrupted. {self._log(request)}")
            elif not is_raised(request.model, request.version):
                yield ActionOutcome(request, "dropped", "The alarm cleared before this started.")
            elif request.step not in self._commands:
                yield ActionOutcome(request, "dropped", f"{_SETTINGS[request.step]} was unset before this started.")
            elif not busy:
                yield from self._start(request)

    def close(self, outcome: ActionOutcome) -> None:
        """Remember that the end of a request was reported."""
        if outcome.state != "started":
            self._write(outcome.request.id, "closed", {"state": outcome.state, "said": outcome.sentence})

    def _start(self, request: Request) -> Iterator[ActionOutcome]:
        if request.step == "command":
            if self._launch(request, "background"):
                yield ActionOutcome(
                    request, "started", f"What DRIFT_ON_RAISE names runs in the background. {self._log(request)}"
                )
            return
        try:
            holder = self._in_production(request.model)
        except TrackingUnavailableError as error:
            _logger.warning("%s version %s cannot be rolled back yet: %s", clean(request.model), request.version, error)
            return
        if holder != request.version:
            yield ActionOutcome(request, "dropped", f"Version {request.version} is not in Production ({holder or 'none'} is).")
        elif self._launch(request, "wait"):
            yield self._ended(request)

    def _launch(self, request: Request, how: Literal["background", "wait"]) -> bool:
        """Whether it has begun; if not, the next run of the job tries again."""
        folder, lock = self._folder / request.id, self._folder / f"{request.step}.lock"
        # -P: the modules beside run_command.py are no part of it.
        command = [sys.executable, "-P", run_command.__file__, str(folder), str(lock), how]
        with (folder / "output.log").open("ab") as log:
            run = json.dumps(self._run(request)).encode()
            process = subprocess.run(command, input=run, stdout=log, stderr=log, check=False)
        if process.returncode != 0:
            _logger.error("%s was not started. %s", request.id, self._log(request))
        return process.returncode == 0

    def _run(self, request: Request) -> dict[str, Any]:
        """As `run_command.py` reads it."""
        raised = {"RAISED_MODEL": request.model, "RAISED_VERSION": request.version, "RAISED_REASON": request.reason}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return {
            "command": list(self._commands[request.step](request)),
            "input": json.dumps(asdict(request)),
            "env": raised | {"PATH": path, "PYTHONPATH": str(IMPORT_ROOT)},
            "without": _OF_ANOTHER_RUN,
            "timeout": _TIMEOUTS[request.step],
        }

    def _ended(self, request: Request) -> ActionOutcome:
        status = (self._read(request.id, "ended") or {}).get("status")
        sentence = "It succeeded." if status == 0 else f"It ended with exit status {status}."
        if request.step == "rollback":  # what this project's own command says holds nothing private
            lines = (self._folder / request.id / "output.log").read_text(errors="replace").split("\n")
            shown_lines = [shown for line in lines if (shown := one_line(hide_secrets(line), 300))]
            sentence = " ".join([sentence, *shown_lines[-_SHOWN_LINES:]])
        return ActionOutcome(request, "done" if status == 0 else "failed", f"{sentence} {self._log(request)}")

    def _log(self, request: Request) -> str:
        return f"What it printed is in {self._folder / request.id / 'output.log'}."

    def _open(self) -> list[Request]:
        """Requests whose end was not reported yet, oldest window first; a roll back before a command."""
        requests = []
        for name in self._files.folders():
            try:
                stored = self._read(name, "request")
                if stored is not None and self._read(name, "closed") is None:
                    requests.append(Request(**stored["request"]))
            except (KeyError, TypeError) as error:
                set_aside(self._files, f"{name}/request.json", error, "It is not carried out.")
            except StateFileError as error:
                _logger.error("A request waits: %s", error)
        return sorted(requests, key=lambda request: (request.step == "command", request.window, request.id))

    def _is_busy(self, step: Step) -> bool:
        with (self._folder / f"{step}.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _read(self, name: str, what: str) -> dict[str, Any] | None:
        """None if there is no such file. A damaged one is empty: that it is there says that something has begun, or ended."""
        try:
            stored = json.loads(read_bytes(self._files, f"{name}/{what}.json"))
        except FileNotFoundError:
            return None
        except StateFileError:
            raise
        except ValueError:
            return {}
        return stored if isinstance(stored, dict) else {}

    def _write(self, name: str, what: str, content: dict[str, Any]) -> None:
        self._files.write(f"{name}/{what}.json", json.dumps(content).encode())


def commands(on_raise: tuple[str, ...], auto_rollback: bool) -> dict[Step, Command]:
    """What each step that is switched on runs."""
    lines: dict[Step, Command] = {}
    if on_raise:
        lines["command"] = lambda request: on_raise
    if auto_rollback:
        lines["rollback"] = _rollback
    return lines


def _rollback(request: Request) -> tuple[str, ...]:
    """That version or none: it may have moved since."""
    of = (f"--name={request.model}", f"--version={request.version}", f"--reason={request.reason}")
    return (sys.executable, "-m", "eye_disease", "rollback", *of)
