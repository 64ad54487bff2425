"""Runs one command that an alarm has started, on its own and to its end.

Run as `python -P run_command.py FOLDER LOCK background|wait`, with the command on its standard input as `actions.py` writes it.
It needs only the standard library, so that it is up at once. No shell sees the command, which gets `input` on its standard
input.
While it runs, LOCK is held, by it too: two never run at a time, and the kernel frees the lock of whatever is killed.

FOLDER/begun.json   process id (it leads a process group) and time; with it the command is never started again
FOLDER/ended.json   exit status (124: it took too long, 127: it could not be started) and time
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BUSY, TOO_LONG, NOT_FOUND = 75, 124, 127


def launch(folder: Path, lock: Path, background: bool) -> None:
    """See above; returns at once if the command has begun before. Exits with BUSY if another one is in progress."""
    request = json.load(sys.stdin)
    with lock.open("a") as lock_file:
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(BUSY)
        if (folder / "begun.json").exists():
            return
        ready, tell = os.pipe()
        if background and os.fork():
            os.close(tell)
            os.read(ready, 1)  # until the child, which has the lock too, has begun
            os._exit(0)
        os.setsid()
        _write(folder / "begun.json", {"pid": os.getpid(), "at": _now()})
        os.close(tell)
        _write(folder / "ended.json", {"status": _run(request, lock_file.fileno()), "at": _now()})


def _run(request: dict[str, Any], lock: int) -> int:
    env = {name: value for name, value in os.environ.items() if name not in request["without"]} | request["env"]
    try:
        with tempfile.TemporaryFile() as standard_input:  # a command that never reads holds nobody up
            standard_input.write(request["input"].encode())
            standard_input.seek(0)
            process = subprocess.Popen(request["command"], stdin=standard_input, env=env, pass_fds=(lock,))
    except OSError as error:
        print(f"The command could not be started: {error}", file=sys.stderr)
        return NOT_FOUND
    try:
        return process.wait(request["timeout"])
    except subprocess.TimeoutExpired:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # for the group, but not for this process, which has to tell
        os.killpg(0, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
        return TOO_LONG


def _write(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    launch(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "background")
