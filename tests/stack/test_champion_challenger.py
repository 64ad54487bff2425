"""Two registered versions served natively behind a real nginx by one script, then compared: a story in order."""

import base64
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from tests.support.proxies import Running, needs_nginx, nginx
from tests.support.servers import NAME, PROJECT, end, environment, free_port, python, read_records, run

pytestmark = needs_nginx
SCRIPT = str(PROJECT / "deploy" / "champion_challenger.sh")
CLIENTS = [f"clinic-{n}" for n in range(16)]


@dataclass
class Stack:
    """The script at work."""

    env: dict[str, str]
    challenger: str
    """Version"""
    process: subprocess.Popen[bytes]
    output: Path
    ports: dict[str, int]
    """PROXY_PORT, CHAMPION_PORT, CHALLENGER_PORT"""
    folder: Path

    def answer(self, photo: bytes, client: str) -> dict:
        """To one photo, through the proxy."""
        proxy = Running(self.ports["PROXY_PORT"], self.folder, self.process)
        return _answer(proxy, photo, client)

    def records(self) -> list[dict]:
        return read_records(self.folder / "log")

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 300
        while text not in self.output.read_text():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.2)


def _answer(proxy: Running, photo: bytes, client: str) -> dict:
    request = {"dataframe_records": [{"image": base64.b64encode(photo).decode()}]}
    status, answer = proxy.post(json.dumps(request).encode(), client)
    assert status == 200
    return answer["predictions"][0]


def _photo(seed: int) -> bytes:
    """Small: what it shows does not matter here."""
    file = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (48, 48, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def stack(registry: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    registered = python("register.py", "register", env=registry)
    assert registered.returncode == 0, registered.stderr
    challenger = re.search(r"version (\d+)", registered.stdout)[1]
    ports = {name: free_port() for name in ("PROXY_PORT", "CHAMPION_PORT", "CHALLENGER_PORT")}
    (folder / "temporary").mkdir()
    env = registry | {name: str(port) for name, port in ports.items()}
    env |= {
        "INFERENCE_LOG_DIR": str(folder / "log"),
        "MONITORING_DIR": str(folder / "state"),
        "TMPDIR": str(folder / "temporary"),
    }
    command = [SCRIPT, "--champion", "1", "--challenger", challenger, "--percent", "50", "--timeout-seconds", "60"]
    with (folder / "output").open("wb") as sink:
        process = subprocess.Popen(command, env=env, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True)
    made = Stack(env, challenger, process, folder / "output", ports, folder)
    try:
        made.wait_for("Ctrl-C stops everything.")
        yield made
    finally:
        end(process)


def test_each_client_is_answered_by_one_of_the_versions(stack: Stack) -> None:
    assigned = {client: stack.answer(_photo(n), client)["model_version"] for n, client in enumerate(CLIENTS)}
    assert set(assigned.values()) == {"1", stack.challenger}
    assert {client: stack.answer(_photo(99), client)["model_version"] for client in CLIENTS[::-1]} == assigned
    roles = [(record["model_version"], record["role"]) for record in stack.records()]
    assert len(roles) == 2 * len(CLIENTS)  # no answer came from both
    assert set(roles) == {("1", "champion"), (stack.challenger, "challenger")}


def test_a_shadow_answers_the_same_photos_on_record_only(stack: Stack) -> None:
    before = len(stack.records())
    versions = [f"127.0.0.1:{stack.ports[name]}" for name in ("CHAMPION_PORT", "CHALLENGER_PORT")]
    with nginx(versions[0], shadow=versions[1]) as proxy:
        answers = [_answer(proxy, _photo(100 + n), CLIENTS[n]) for n in range(5)]
        deadline = time.monotonic() + 60
        while len(made := stack.records()) < before + 10:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert {one["model_version"] for one in answers} == {"1"}
    ours = {one["image_sha256"]: one["predicted_class"] for one in made if one["prediction_id"] in _ids(answers)}
    theirs = {one["image_sha256"]: one["predicted_class"] for one in made if one["model_version"] == stack.challenger}
    assert len(ours) == 5
    assert {photo: theirs[photo] for photo in ours} == ours


def _ids(answers: list[dict]) -> set[str]:
    return {one["prediction_id"] for one in answers}


def test_the_comparison_is_in_mlflow(stack: Stack) -> None:
    compare = ("drift_job.py", "compare", "--champion", "1", "--challenger", stack.challenger)
    labelled = [one["prediction_id"] for one in stack.records() if one["model_version"] == "1"][-5:]
    taken_in = python(*compare, env=stack.env | {"ENABLE_MLFLOW_TRACKING": "false"})
    assert taken_in.returncode == 5, taken_in.stderr
    (stack.folder / "labels.csv").write_text("prediction_id,label\n" + "".join(f"{one},normal\n" for one in labelled))
    feedback = python("drift_job.py", "feedback", "--file", str(stack.folder / "labels.csv"), "--by", "grader-1", env=stack.env)
    assert feedback.returncode == 0, feedback.stderr
    done = python(*compare, env=stack.env)
    assert done.returncode == 5, done.stderr
    assert "5 of the 50 labels that a decision needs" in done.stdout
    assert re.search(r"Same class: 1\.000 of \d+ photos that both answered", done.stdout)
    client = MlflowClient(stack.env["MLFLOW_TRACKING_URI"], stack.env["MLFLOW_TRACKING_URI"])
    tags = client.get_model_version(NAME, stack.challenger).tags
    assert tags["comparison"] == "not enough evidence yet (against version 1)"
    found = client.get_run(tags["comparison_run"])
    assert (found.info.status, found.data.tags["comparison.champion"]) == ("FINISHED", "1")
    assert found.data.metrics["labelled_pairs"] == 5
    assert found.data.metrics["champion/accuracy"] == found.data.metrics["challenger/accuracy"]
    artifacts = {one.path for one in client.list_artifacts(found.info.run_id)}
    assert artifacts == {"comparison.json", "comparison.txt", "decision.json"}


def test_when_the_challenger_dies_every_client_is_still_answered(stack: Stack) -> None:
    (main,) = [
        pid for pid, parent in _parents().items() if parent == stack.process.pid and _serves(pid, "CHALLENGER_PORT", stack)
    ]
    os.killpg(main, signal.SIGKILL)
    assert {stack.answer(_photo(n), client)["model_version"] for n, client in enumerate(CLIENTS)} == {"1"}
    stack.wait_for("THE challenger HAS ENDED: the champion answers everybody.")


def test_ctrl_c_leaves_nothing_behind(stack: Stack) -> None:
    parents = _parents()
    started = {stack.process.pid}
    while more := {pid for pid, parent in parents.items() if parent in started} - started:
        started |= more
    assert len(started) > 3
    os.killpg(stack.process.pid, signal.SIGINT)
    assert stack.process.wait(timeout=60) == 130
    assert stack.output.read_text().rstrip().endswith("Stopped.")
    assert started & set(_parents()) == set()
    assert list((stack.folder / "temporary").iterdir()) == []


def _parents() -> dict[int, int]:
    """Process -> parent, of all that run."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended since
            continue
        if fields[0] != "Z":
            found[int(status.parent.name)] = int(fields[1])
    return found


def _serves(pid: int, port: str, stack: Stack) -> bool:
    return str(stack.ports[port]).encode() in (Path("/proc") / str(pid) / "cmdline").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "expected --champion VERSION, and --challenger VERSION or --shadow VERSION"),
        (("--champion",), "--champion needs a value"),
        (("--champion", "1", "--shadow", "2"), "port 0x is taken, or not a port"),
    ],
)
def test_what_is_missing_is_said(arguments: tuple[str, ...], said: str) -> None:
    done = run(SCRIPT, *arguments, env=environment(PROXY_PORT="0x"))
    assert done.returncode == 1
    assert said in done.stderr
