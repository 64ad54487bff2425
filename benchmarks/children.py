"""Child processes: started in a process group of their own, always stopped, looked at through /proc."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_STOP_SECONDS = 15
_POLL_SECONDS = 0.01
_TICKS = os.sysconf("SC_CLK_TCK")


class ChildError(RuntimeError):
    """A child process that did not start or ended; the message holds the end of its output."""


class Child:
    """A process and its descendants; leaving the `with` block ends them all."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], folder: Path, log: Path) -> None:
        self._log = log
        self.started = time.perf_counter()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env=dict(env),
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=self._standard_output(output.fileno()),
                stderr=output,
                # Descendants (MLflow starts a shell, that an uvicorn) stay in this group and are ended with it.
                start_new_session=True,
            )

    def _standard_output(self, log: int) -> int:
        return log

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the whole group: politely, then by force."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            deadline = time.monotonic() + _STOP_SECONDS
            while self.members() and time.monotonic() < deadline:
                self._process.poll()  # takes the exit status, so that the process does not stay as a zombie
                time.sleep(_POLL_SECONDS)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def members(self) -> list[int]:
        """Running processes of the group."""
        return [one.pid for one in _processes() if one.group == self._process.pid and one.state not in "ZX"]

    def cpu_seconds(self) -> float:
        """CPU time that the group's processes have used so far."""
        return sum(one.cpu_seconds for one in _processes() if one.group == self._process.pid)

    def require_running(self) -> None:
        """Raises ChildError with the end of the output if the process has ended."""
        if self._process.poll() is not None:
            raise ChildError(f"exit status {self._process.returncode}: {self.output_end()}")

    def output_end(self) -> str:
        """The last 2,000 characters of what the process has written."""
        return self._log.read_text(errors="replace")[-2000:]


class Server(Child):
    """An HTTP server that answers /ping."""

    def __init__(self, command: Sequence[str], port: int, env: Mapping[str, str], folder: Path, log: Path) -> None:
        self.port = port
        super().__init__(command, env, folder, log)

    def wait_ready(self, seconds: float = 180) -> float:
        """Seconds from the start of the process to the first 200 of /ping. Raises ChildError."""
        while time.perf_counter() - self.started < seconds:
            if self._answers_ping():
                return time.perf_counter() - self.started
            self.require_running()
            time.sleep(_POLL_SECONDS)
        raise ChildError(f"no answer to /ping in {seconds:.0f} s: {self.output_end()}")

    def worker(self) -> int:
        """Process id of the uvicorn process that answers requests. Raises ChildError unless there is exactly one."""
        found = [pid for pid in self.members() if any("uvicorn" in argument for argument in _arguments(pid))]
        if len(found) != 1:
            raise ChildError(f"expected one uvicorn process, found {len(found)}")
        return found[0]

    def _answers_ping(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class Loop(Child):
    """A process that reads a JSON line and answers with one."""

    def _standard_output(self, log: int) -> int:
        return subprocess.PIPE

    def ask(self, question: object) -> list[float]:
        """Raises ChildError if the process has ended."""
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._process.wait()
        if not (line := self._process.stdout.readline()):
            raise ChildError(f"no answer: {self.output_end()}")
        return json.loads(line)


class Bystanders:
    """Measures the share of the machine's CPU time that goes to processes other than ours and `children`."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._before = self._used()

    def share(self) -> float:
        """0..1, since the start."""
        everybody, ours, available = (now - before for now, before in zip(self._used(), self._before, strict=True))
        return max(0.0, everybody - ours) / available

    def _used(self) -> tuple[float, float, float]:
        # user, nice, system, idle, iowait, irq, softirq, steal
        user, nice, system, idle, wait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
        everybody = (user + nice + system + irq + softirq + steal) / _TICKS
        ours = time.process_time() + sum(child.cpu_seconds() for child in self._children)
        return everybody, ours, everybody + (idle + wait) / _TICKS


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def resident_mib(pid: int) -> float:
    """VmRSS of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def mapped_files(pid: int, name_part: str) -> set[str]:
    """Names of the files mapped into a process whose name holds `name_part`."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    names = {Path(fields[5]).name for line in lines if len(fields := line.split(maxsplit=5)) == 6}
    return {name for name in names if name_part in name}


@dataclass(frozen=True)
class _ProcessState:
    pid: int
    group: int
    state: str
    cpu_seconds: float


def _processes() -> list[_ProcessState]:
    """Every process of the machine."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                # The name, in brackets, may hold spaces: the fields are counted from its end.
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                cpu_seconds = (int(fields[11]) + int(fields[12])) / _TICKS
                found.append(_ProcessState(int(folder.name), int(fields[2]), fields[0], cpu_seconds))
    return found


def _arguments(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return []
