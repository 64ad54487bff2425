"""Windows of the drift job against a tracking server that refuses, hangs, cuts and answers 500: is every point there, once?

    python benchmarks/faulty_tracking.py [--windows 30] [--seed 1] [--write]

A real MLflow server stands behind a proxy that spoils requests at random. After each window the job runs again until nothing
waits any more, at first against the faults and at the end without. Then the server's history is compared with the log.
"""

import argparse
import logging
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from mlflow import MlflowClient

from benchmarks.figures import table
from benchmarks.machine import machine_lines, write_section
from eye_disease.monitoring.job import DriftJob
from eye_disease.monitoring.mlflow_writer import MlflowWriter
from eye_disease.monitoring.settings import MonitoringSettings
from eye_disease.verdict.limits import DriftLimits
from tests.support.drift_logs import write_log
from tests.support.drift_records import make_records
from tests.support.faults import Answer, Proxy, faulty
from tests.support.logs import MODEL, NOON
from tests.support.servers import serve_tracking

EXPERIMENT, VERSION = "faulty", "unregistered"
PREDICTIONS = 300
"""Of a window; about 2,100 points, five requests"""
TIMEOUT_S = 1
SPOILED = 0.2
"""Share of the requests"""
FAULTY_RUNS = 4
"""Runs of the job after each window while there are faults"""
SECTION = "Faulty tracking server"
_NOTES = f"""
- Each window has {PREDICTIONS} predictions. A fifth of all requests is spoiled, each in one of the ways of the table; the
  client tries a failing request once more, and waits {TIMEOUT_S} s for an answer.
- "done": the server has taken the request, and only its answer is spoiled. A point that is sent again must not count twice.
- Compared with the log, by step and value: `prediction_count` of every prediction, `session_predictions` of every window. Of
  every other metric no step may be there twice.
"""


def _refuse(forward: Callable[[], Answer]) -> Answer | None:
    return None


def _cut(forward: Callable[[], Answer]) -> Answer | None:
    forward()
    return None


def _hang(forward: Callable[[], Answer]) -> Answer | None:
    time.sleep(TIMEOUT_S + 0.5)
    return None


def _hang_done(forward: Callable[[], Answer]) -> Answer | None:
    forward()
    return _hang(forward)


def _fail(forward: Callable[[], Answer]) -> Answer | None:
    return 500, b"{}"


def _fail_done(forward: Callable[[], Answer]) -> Answer | None:
    forward()
    return 500, b"<html>no JSON</html>"


def _nonsense(forward: Callable[[], Answer]) -> Answer | None:
    status, _ = forward()
    return status, b"<html>a proxy's own page</html>"


FAULTS = {
    "connection closed": _refuse,
    "connection closed, done": _cut,
    "no answer in time": _hang,
    "no answer in time, done": _hang_done,
    "500": _fail,
    "500, done": _fail_done,
    "200 with something else, done": _nonsense,
}


@dataclass
class Spoiler:
    """Spoils requests at random; counts what it did."""

    chance: random.Random
    on: bool = True
    spoiled: Counter[str] = field(default_factory=Counter)
    requests: int = 0

    def __call__(self, path: str, forward: Callable[[], Answer]) -> Answer | None:
        """As a fault of tests.support.faults.Proxy."""
        self.requests += 1
        if not self.on or self.chance.random() >= SPOILED:
            return forward()
        name = self.chance.choice(list(FAULTS))
        self.spoiled[name] += 1
        return FAULTS[name](forward)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=30, help="judged windows")
    parser.add_argument("--seed", type=int, default=1, help="of the faults")
    parser.add_argument("--write", action="store_true", help=f"replace the section `{SECTION}` of benchmarks/RESULTS.md")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    with tempfile.TemporaryDirectory() as name, serve_tracking(Path(name) / "server") as server, faulty(server.url) as proxy:
        spoiler = Spoiler(random.Random(asked.seed))
        runs = campaign(Path(name), proxy, spoiler, asked.windows)
        held = compare(MlflowClient(server.url), asked.windows)
    command = f"python benchmarks/faulty_tracking.py --windows {asked.windows} --seed {asked.seed}" + " --write" * asked.write
    head = "\n".join([*machine_lines(("mlflow",)), f"- Command: `{command}`"])
    faults = table(("fault", "requests"), [(fault, str(spoiler.spoiled[fault])) for fault in FAULTS])
    found = f"{asked.windows} windows, {runs} runs of the job, {spoiler.requests:,} requests. {held}"
    text = "\n\n".join([head, faults, found, _NOTES.strip()])
    print(text)
    if asked.write:
        write_section(SECTION, text)


def campaign(folder: Path, proxy: Proxy, spoiler: Spoiler, windows: int) -> int:
    """Judge and send all windows; returns how often the job has run."""
    proxy.fault = spoiler
    settings = MonitoringSettings.from_env(
        {
            "INFERENCE_LOG_DIR": str(folder / "log"),
            "MONITORING_DIR": str(folder / "state"),
            "MLFLOW_EXPERIMENT_NAME": EXPERIMENT,
            "MONITORING_MLFLOW_TIMEOUT_SECONDS": str(TIMEOUT_S),
        }
    )
    writer = partial(MlflowWriter, MlflowClient(proxy.url), settings.experiment, TIMEOUT_S)
    runs = 0
    for window in range(windows):
        start = NOON + timedelta(hours=window)
        write_log(folder / "log", make_records(PREDICTIONS, seed=window), start, f"p{window}", VERSION)
        spoiler.on = True
        for attempt in range(2 * FAULTY_RUNS):
            spoiler.on = attempt < FAULTY_RUNS
            # The hour is over, so that the segment is closed.
            DriftJob(settings, DriftLimits(), writer, now=lambda start=start: start + timedelta(hours=2)).run()
            runs += 1
            if not list((folder / "state" / "spool").glob("*/batch.json")):
                break
    return runs


def compare(client: MlflowClient, windows: int) -> str:
    """What the server holds, against the log. Raises RuntimeError for a point that is not there once."""
    runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    if [run.data.tags["monitoring.version"] for run in runs] != [VERSION]:
        raise RuntimeError(f"{len(runs)} monitoring runs of {MODEL} {VERSION}, expected one")
    run_id = runs[0].info.run_id
    wanted = {
        "prediction_count": Counter((step, step + 1.0) for step in range(windows * PREDICTIONS)),
        "session_predictions": Counter((number, float(PREDICTIONS)) for number in range(1, windows + 1)),
    }
    points = 0
    for name, expected in wanted.items():
        found = Counter((one.step, one.value) for one in client.get_metric_history(run_id, name))
        if found != expected:
            missing, more = sum((expected - found).values()), sum((found - expected).values())
            raise RuntimeError(f"{name}: {missing} points are missing, {more} are there that should not be")
        points += len(found)
    doubled = 0
    for name in runs[0].data.metrics:
        history = client.get_metric_history(run_id, name)
        points += len(history) if name not in wanted else 0
        doubled += len(history) - len({one.step for one in history})
    if doubled:
        raise RuntimeError(f"{doubled} points are there twice")
    return f"The server holds {points:,} points: none is missing, none is there twice, and there is one monitoring run."


if __name__ == "__main__":
    main()
