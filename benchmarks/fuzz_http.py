"""Odd and damaged requests to a served model: every answer is valid JSON, and no neighbour of a bad photo is harmed.

python benchmarks/fuzz_http.py [--requests 2000] [--seed 1] [--write]
"""

import argparse
import base64
import http.client
import json
import os
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import numpy as np
from PIL import Image

from benchmarks.children import Server
from benchmarks.figures import table
from benchmarks.machine import machine_lines, write_section
from benchmarks.mutations import mutated, odd_cell, request, seeds
from benchmarks.servers import OURS, Peers
from eye_disease.common.paths import BUNDLED_PACKAGE
from eye_disease.registry.mlflow_model import save_package

CLIENTS = 4
CONTENT_TYPES = ("application/json",) * 8 + (
    "text/csv",
    "application/vnd.apache.parquet",
    "image/jpeg",
    "application/json; charset=x",
)
NEIGHBOUR = (BUNDLED_PACKAGE / "canary.jpg").read_bytes()
EXPECTED_STATUSES = {200, 400, 415, 503}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2_000, help="requests (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="replace the section `Fuzzing the server` of RESULTS.md")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        peers = Peers(Path(folder))
        save_package(BUNDLED_PACKAGE, peers.model(OURS), "bundled")
        with peers.server(OURS) as server:
            server.wait_ready()
            worker = server.worker()
            found = _campaign(server, asked.requests, asked.seed)
            alive = server.worker() == worker
    bad = sum(count for name, count in found.items() if name.startswith("wrong"))
    rows = [("requests", f"{asked.requests:,}", "")]
    rows += [(name, f"{count:,}", "**MISSED**" if name.startswith("wrong") else "") for name, count in sorted(found.items())]
    rows += [("answers that are not JSON, neighbours harmed, other statuses", f"{bad:,}", "pass" if bad == 0 else "**MISSED**")]
    rows += [("the worker lives", "yes" if alive else "no", "pass" if alive else "**MISSED**")]
    command = (
        f"- Command: `python benchmarks/fuzz_http.py --requests {asked.requests} --seed {asked.seed}{' --write' * asked.write}`"
    )
    head = "\n".join([*machine_lines(("mlflow", "pillow", "numpy")), command])
    note = (
        f"- {CLIENTS} clients on one worker. A request holds the canary photo and one to four mutated files or odd cells, in a"
    )
    note += " random form; every fifth is itself damaged."
    text = f"{head}\n\n{table(('what', 'measured', 'verdict'), rows)}\n\n{note}"
    print(text)
    if asked.write:
        write_section("Fuzzing the server", text)


def _campaign(server: Server, requests: int, seed: int) -> Counter[str]:
    files = list(seeds(Image.open(BUNDLED_PACKAGE / "canary.jpg")).values())
    expected = _post(server, json.dumps({"instances": [{"image": _text(NEIGHBOUR)}]}).encode(), "application/json")[1]
    confidence = json.loads(expected)["predictions"][0]["confidence"]

    def ask(number: int) -> list[str]:
        rng = np.random.default_rng((seed, number))
        photos = [mutated(files[int(i)], files[int(j)], rng) for i, j in rng.integers(len(files), size=(rng.integers(1, 5), 2))]
        cells = [odd_cell(photo, rng) for photo in photos]
        place = int(rng.integers(len(cells) + 1))
        body, damaged = request([*cells[:place], _text(NEIGHBOUR), *cells[place:]], rng)
        status, answer = _post(server, body, str(rng.choice(CONTENT_TYPES)))
        return _judged(status, answer, None if damaged else (place, confidence))

    found: Counter[str] = Counter()
    with ThreadPoolExecutor(CLIENTS) as executor:
        for judged in executor.map(ask, range(requests)):
            found.update(judged)
    return found


def _judged(status: int, body: bytes, neighbour: tuple[int, float] | None) -> list[str]:
    """What is to be counted of an answer. neighbour: the sound photo's row and confidence; None if the request is damaged."""
    judged = [f"status {status}"] if status in EXPECTED_STATUSES else [f"wrong: status {status}"]
    if status == 415:
        return judged  # MLflow's own, in words
    try:
        answer = json.loads(body, parse_constant=_refuse)
    except ValueError:
        return [*judged, "wrong: not JSON"]
    if status != 200:
        return judged
    rows = answer["predictions"]
    if any(row["error_code"] == "internal_error" for row in rows):
        judged.append("wrong: internal_error")
    if neighbour:
        place, confidence = neighbour
        unharmed = rows[place]["error_code"] is None and abs(rows[place]["confidence"] - confidence) < 1e-6
        judged.append("neighbours unharmed" if unharmed else "wrong: a neighbour harmed")
    return judged + [f"row: {row['error_code'] or 'answered'}" for row in rows]


def _post(server: Server, body: bytes, content_type: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    try:
        connection.request("POST", "/invocations", body, {"Content-Type": content_type})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _text(photo: bytes) -> str:
    return base64.b64encode(photo).decode()


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


if __name__ == "__main__":
    main()
