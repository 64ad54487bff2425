"""`kill -9` of the drift job at random moments, while processes answer photos and are killed too: records lost, records twice.

    python benchmarks/kill_drift_job.py [--kills 60] [--write]

Real processes: each answer is appended by `model_code.inference_log` before it counts as given, the job is the whole
`DriftJob.run`, with a tracking server that is down, so that its results pile up in the spool. At the end one run is left alone;
then every answer has to be in the store once, and every record in one window's results. Ends with status 1 if not.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "TZ": "UTC"}

import pyarrow as pa

from benchmarks.machine import machine_lines, write_section
from eye_disease.common.errors import TrackingUnavailableError
from eye_disease.monitoring import job as job_module
from eye_disease.monitoring.settings import MonitoringSettings
from eye_disease.monitoring.spool import Waiting
from eye_disease.records.storage import Storage
from eye_disease.records.store import find_stores
from eye_disease.verdict.limits import DriftLimits
from model_code import inference_log
from tests.support.logs import MODEL, record

_WRITERS = 2
_OWN = ("timestamp", "process_id", "sequence", "lost_records")
_LIMIT_S = 120
_CLOCKS = (0.0, -2.0, 1.0, -26.0, 5.0)
"""Hours by which the writers' clocks are off, one after the other."""


@dataclass(frozen=True)
class Campaign:
    """What came of the kills."""

    kills: int
    writers_killed: int
    answers: int
    lost: int
    twice: int
    windows: int
    """Judged, with results in the spool"""
    not_judged: int
    """Records in no window's results"""
    judged_twice: int

    @property
    def well(self) -> bool:
        """Whether nothing was lost or doubled."""
        return not (self.lost or self.twice or self.not_judged or self.judged_twice)


class _Down:
    """A tracking server that does not answer."""

    def write(self, waiting: Waiting, deadline: float) -> None:
        raise TrackingUnavailableError("down")


def campaign(folder: Path, kills: int, chance: random.Random) -> Campaign:
    """Kill the job `kills` times; `folder` is empty."""
    answered, died, writers_killed, attempts = folder / "answered", 0, 0, 0
    answered.mkdir()
    writers = [_fork(lambda n=n: _answer(folder, n)) for n in range(_WRITERS)]
    longest = 0.3
    while died < kills and attempts < 5 * kills:
        attempts += 1
        started = time.monotonic()
        child = _fork(lambda: _judge(folder))
        time.sleep(chance.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        was_killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        died += was_killed
        longest = max(0.1, longest * 1.1 if was_killed else 0.9 * (time.monotonic() - started))
        if chance.random() < 0.2:
            which = chance.randrange(_WRITERS)
            _kill(writers[which])
            writers_killed += 1
            writers[which] = _fork(lambda number=_WRITERS + attempts: _answer(folder, number))
    for one in writers:
        _kill(one)
    _require_success(_fork(lambda: _judge(folder, far=True)))
    return _counted(folder, died, writers_killed)


def _answer(folder: Path, number: int) -> None:
    """A served model's process: an id stands in `answered` once its record is written."""
    offset = timedelta(hours=_CLOCKS[number % len(_CLOCKS)])
    inference_log.datetime = type("Clock", (datetime,), {"now": classmethod(lambda cls, tz: datetime.now(tz) + offset)})
    log = inference_log.InferenceLog(folder / "log" / MODEL / "1", required=True)
    with (folder / "answered" / f"{number}").open("w", buffering=1) as given:
        while True:
            row = record(0, datetime.now(UTC))
            log.append([{name: value for name, value in row.items() if name not in _OWN}])
            given.write(f"{row['prediction_id']}\n")
            time.sleep(0.01)


def _judge(folder: Path, far: bool = False) -> None:
    """One run of the job. far: a day from now, when the window is due however few records it has."""
    pa.set_cpu_count(1)
    env = {"INFERENCE_LOG_DIR": str(folder / "log"), "MONITORING_DIR": str(folder / "state")}
    job_module.make_report = lambda found: {"report.html": b"plots take longer than all the rest"}
    job_module.read_promise = lambda packages, store: None
    job_module.References.find = lambda self, store, now: None
    limits = replace(DriftLimits(), min_predictions=20)
    now = datetime.now(UTC) + timedelta(hours=25 * far)
    job_module.DriftJob(MonitoringSettings.from_env(env), limits, _Down, now=lambda: now).run()


def _counted(folder: Path, kills: int, writers_killed: int) -> Campaign:
    ids = {one for path in (folder / "answered").iterdir() for one in path.read_text().split("\n")[:-1]}
    (store,) = find_stores(Storage(str(folder / "log")))
    held = Counter(
        value for batch in store.read_batches(["prediction_id"], canary=True) for value in batch["prediction_id"].to_pylist()
    )
    windows = [
        int(value)
        for path in (folder / "state" / "spool").glob("*/metrics.ndjson")
        for name, value, _, _ in map(json.loads, path.read_text().splitlines())
        if name == "session_predictions"
    ]
    judged = sum(windows)
    return Campaign(
        kills=kills,
        writers_killed=writers_killed,
        answers=len(ids),
        lost=len(ids - held.keys()),
        twice=sum(count > 1 for count in held.values()),
        windows=len(windows),
        not_judged=max(0, held.total() - judged),
        judged_twice=max(0, judged - held.total()),
    )


def _fork(work: Callable[[], None]) -> int:
    if child := os.fork():
        return child
    signal.alarm(_LIMIT_S if work.__defaults__ is None else 0)
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def _kill(child: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _require_success(child: int) -> None:
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        sys.exit(f"The run that was left alone ended with status {status}.")


def table(found: Campaign) -> list[str]:
    """Markdown."""
    rows = {
        "kills of the drift job at work": found.kills,
        "kills of processes that answer": found.writers_killed,
        "answers": found.answers,
        "lost": found.lost,
        "in the store twice": found.twice,
        "windows judged": found.windows,
        "records in no window's results": found.not_judged,
        "records in two windows' results": found.judged_twice,
    }
    return ["| what | number |", "| --- | ---: |", *(f"| {name} | {number:,} |" for name, number in rows.items())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="replace the section `Killed drift job` of benchmarks/RESULTS.md")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = campaign(Path(name), asked.kills, random.Random(asked.seed))
    lines = table(found)
    print("\n".join(lines))
    if asked.write:
        repeat = f"- Repeat: `python benchmarks/kill_drift_job.py --kills {asked.kills} --write`"
        clocks = ", ".join(f"{one:+g} h" for one in _CLOCKS)
        note = f"Two processes answer 100 photos a second each at most; their clocks are off by {clocks} in turn."
        write_section("Killed drift job", "\n".join([*machine_lines(["pyarrow"]), repeat, "", note, "", *lines]))
    sys.exit(0 if found.well else 1)


if __name__ == "__main__":
    main()
