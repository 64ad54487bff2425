"""`kill -9` of the server under traffic, again and again: answers that are not on record, answers that are twice.

    python benchmarks/kill_server.py [--kills 20] [--write]

The bundled model, served by `mlflow models serve` with one worker and with two in turn; the whole process group is killed at a
random moment. A client's answer counts once it was read whole. Ends with status 1 if one is lost or doubled.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}

from benchmarks.machine import machine_lines, write_section
from eye_disease.common.paths import BUNDLED_PACKAGE, CANARY
from eye_disease.registry.mlflow_model import save_package
from tests.support.servers import environment, read_records, serve_model

_CLIENTS = 6
_LONGEST_S = 4.0
"""Of traffic before a kill."""


@dataclass(frozen=True)
class Campaign:
    """What came of the kills."""

    kills: int
    answers: int
    """Read whole by a client, from first to last"""
    records: int
    lost: int
    twice: int

    @property
    def well(self) -> bool:
        """Whether nothing was lost or doubled."""
        return not (self.lost or self.twice)


def campaign(folder: Path, kills: int, chance: random.Random) -> Campaign:
    """Start a server and kill it, `kills` times; `folder` is empty."""
    model, photo = folder / "model", CANARY.read_bytes()
    save_package(BUNDLED_PACKAGE, model, "bundled")
    answered: list[str] = []
    records: Counter[str] = Counter()
    for number in range(kills):
        given = _one_kill(model, folder / f"{number}", photo, chance.uniform(0.05, _LONGEST_S), workers=1 + number % 2)
        answered += given
        records.update(one["prediction_id"] for one in read_records(folder / f"{number}" / "records"))
        print(f"kill {number + 1}: {len(given)} answers", flush=True)
    lost, twice = set(answered) - records.keys(), sum(count > 1 for count in records.values())
    return Campaign(kills, len(answered), records.total(), len(lost), twice + len(answered) - len(set(answered)))


def _one_kill(model: Path, folder: Path, photo: bytes, seconds: float, workers: int) -> list[str]:
    """Ids of the answers that clients have got until the server was killed, `seconds` after the first one."""
    answered: list[str] = []
    begun = threading.Event()
    with serve_model(str(model), folder, environment(), "--workers", str(workers)) as server:

        def client() -> None:
            while True:
                try:
                    answers = server.classify(photo, b"no image")
                except (OSError, HTTPException, ValueError):  # the server is dead, perhaps in the middle of an answer
                    return
                answered.extend(answer["prediction_id"] for answer in answers)
                begun.set()

        clients = [threading.Thread(target=client) for _ in range(_CLIENTS)]
        for thread in clients:
            thread.start()
        if not begun.wait(timeout=180):
            sys.exit(f"The server gave no answer; its output: {server.output.read_text()[-2000:]}")
        time.sleep(seconds)
        os.killpg(server.process.pid, signal.SIGKILL)
        for thread in clients:
            thread.join(timeout=180)
    return answered


def table(found: Campaign) -> list[str]:
    """Markdown."""
    rows = {
        "kills of the server under traffic": found.kills,
        "answers that clients have got": found.answers,
        "records": found.records,
        "answers lost": found.lost,
        "answers twice": found.twice,
    }
    return ["| what | number |", "| --- | ---: |", *(f"| {name} | {number:,} |" for name, number in rows.items())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="replace the section `Killed server` of benchmarks/RESULTS.md")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = campaign(Path(name), asked.kills, random.Random(asked.seed))
    lines = table(found)
    print("\n".join(lines))
    if asked.write:
        repeat = f"- Repeat: `python benchmarks/kill_server.py --kills {asked.kills} --write`"
        note = f"{_CLIENTS} clients, two rows a request (one of them no image), one worker and two in turn."
        write_section("Killed server", "\n".join([*machine_lines(["mlflow"]), repeat, "", note, "", *lines]))
    sys.exit(0 if found.well else 1)


if __name__ == "__main__":
    main()
