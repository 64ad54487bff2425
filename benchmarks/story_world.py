"""Where the story takes place: a tracking server's client, served versions, nginx, and the project's command lines."""

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from benchmarks.story_photos import Photo, Scale, StoryPhotos
from tests.support.servers import PROJECT, Served, free_port, read_records, run, serve_model, started

NAME = "eye-story"
EXPERIMENT = "story"
_LINKS = ("🏃", "🧪")
"""MLflow's own lines, to pages of a server that will be gone"""
_ROWS = 10
"""Photos of a request"""
_SHADOW_SECONDS = 120
_COMMAND_SECONDS = 1800
"""A command that takes longer hangs"""


class StoryError(RuntimeError):
    """Something was not as the story tells it."""


def expect(true: object, otherwise: str) -> None:
    """Raises StoryError."""
    if not true:
        raise StoryError(otherwise)


class World:
    """Shared by the steps; leaving the `with` block stops every server that is still up."""

    def __init__(self, folder: Path, photos_dir: Path, scale: Scale, env: dict[str, str]) -> None:
        """env: of the commands, MLFLOW_TRACKING_URI in it. Raises what StoryPhotos.lay_out raises."""
        self.folder, self.training = folder, scale.training
        self.photos = photos = StoryPhotos.lay_out(photos_dir.resolve(), folder, scale)
        self.log = folder / "log"
        self.env = env | {
            "MLFLOW_EXPERIMENT_NAME": EXPERIMENT,
            "INFERENCE_LOG_DIR": str(self.log),
            "MONITORING_DIR": str(folder / "monitoring"),
            "MODEL_CACHE_DIR": str(folder / "cache"),
            "LOGNAME": "story",  # who, in the history
            "GATE_DATA": str(photos.gate_manifest),
            "GATE_PHOTOS": str(photos.folder),
            "GATE_MAX_RECALL_LOSS": "0.1",  # of the rarest class there are some ten photos, which cannot tell 0.05
            "GATE_MIN_RECALL": "0.5",  # nor 0.6 from 0.7
            "COMPARE_MARGIN": "0.1",  # likewise: the default, 0.02, takes several hundred labels
            "DRIFT_CLEAR_AFTER": "1",
        }
        self.client = MlflowClient(env["MLFLOW_TRACKING_URI"], env["MLFLOW_TRACKING_URI"])
        self.servers: dict[str, Served] = {}
        self.answers: dict[str, list[dict[str, Any]]] = {}
        """Pool of photos -> the answers that clients got to it last, in order"""
        self.moments: dict[str, datetime] = {}
        """Version -> a time (UTC) soon after it first came into Production"""
        self.decision = ""
        """Of the last comparison"""
        self._stops: dict[str, ExitStack] = {}

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(*reversed(self.servers))

    def command(self, script: str, *arguments: str, statuses: Sequence[int] = (0,), **settings: str) -> str:
        """What a command line of the project prints. Raises StoryError for another exit status."""
        done = run(sys.executable, script, *arguments, env=self.env | settings, timeout=_COMMAND_SECONDS)
        said = f"{script} {' '.join(arguments)}: exit status {done.returncode}\n{done.stdout}{done.stderr[-3000:]}"
        expect(done.returncode in statuses, said)
        return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(_LINKS))

    def project(self, entry: str, parameters: dict[str, object]) -> str:
        """`mlflow run . -e ENTRY -P ...` in this environment."""
        options = [part for name, value in parameters.items() for part in ("-P", f"{name}={value}")]
        where = ["--env-manager", "local", "--experiment-name", f"{NAME}/{entry}"]
        return self.command("-m", "mlflow", "run", str(PROJECT), "-e", entry, *where, *options)

    def register(self, command: str, *arguments: str, status: int = 0) -> str:
        """`register.py COMMAND --name NAME ...`."""
        return self.command("register.py", command, "--name", NAME, *arguments, statuses=(status,))

    def judge(self, health_url: str, drift: bool = False) -> list[str]:
        """A run of the drift job; lines that it printed. drift: whether it must find some."""
        settings = {"HEALTH_CHECK_URL": health_url}
        said = self.command("drift_job.py", "run", "--fail-on", "drift", statuses=(3 if drift else 0,), **settings)
        return [line for line in said.splitlines() if f"{NAME} version" in line or line.startswith("  drift:")]

    def serve_production(self, called: str) -> Served:
        """serve.py: whatever is in Production."""
        port = free_port()
        command = ["serve.py", "--name", NAME, "--stage", "Production", "--port", str(port)]
        return self._start(called, command, port)

    def serve_shadow(self, version: str) -> Served:
        """`mlflow models serve` of a version whose answers are for the record only."""
        env = self.env | {"MODEL_ROLE": "shadow"}
        return self._keep("shadow", serve_model(f"models:/{NAME}/{version}", self.folder / "shadow", env))

    def put_proxy_before(self, champion: Served, shadow: Served) -> Served:
        """proxy.py and nginx, before a champion and its shadow."""
        port = free_port()
        addresses = [server.url.removeprefix("http://") for server in (champion, shadow)]
        command = ["proxy.py", "--champion", addresses[0], "--shadow", addresses[1], "--listen", f"127.0.0.1:{port}"]
        command += ["--timeout-seconds", "60", "--folder", str(self.folder / "nginx"), "--run"]  # busy machines are slow
        return self._start("proxy", command, port)

    def stop(self, *names: str) -> None:
        """End servers, each with all that it started."""
        for name in names:
            self._stops.pop(name).close()
            self.servers.pop(name)

    def send(self, server: Served, photos: Sequence[Photo], pool: str) -> None:
        """Photos as clients send them; their answers stay in `answers`."""
        chunks = [photos[start : start + _ROWS] for start in range(0, len(photos), _ROWS)]
        given = [answer for chunk in chunks for answer in server.classify(*(one.data for one in chunk))]
        expect(len(given) == len(photos) and not any(one["error"] for one in given), "A photo was not answered.")
        self.answers[pool] = given

    def label(self, pool: str, photos: Sequence[Photo]) -> str:
        """`drift_job.py feedback` on the answers to the first photos of a pool, as many as are given."""
        ids = [answer["prediction_id"] for answer in self.answers[pool][: len(photos)]]
        file = self.folder / f"labels-{pool}-{len(photos)}.csv"
        pd.DataFrame({"prediction_id": ids, "label": [one.label for one in photos]}).to_csv(file, index=False)
        said = self.command("drift_job.py", "feedback", "--name", NAME, "--file", str(file), "--by", "grader-1")
        return said.strip()

    def shadow_records(self, count: int) -> list[dict[str, Any]]:
        """Records of the shadow's answers, once there are so many. Raises StoryError after two minutes."""
        deadline = time.monotonic() + _SHADOW_SECONDS
        while len(found := [one for one in read_records(self.log) if one["role"] == "shadow" and not one["canary"]]) < count:
            expect(time.monotonic() < deadline, f"The shadow has answered {len(found)} of {count} photos.")
            time.sleep(0.1)
        return found

    def compare(self) -> tuple[str, list[str]]:
        """`drift_job.py compare` of version 2 with 1: its decision, and why. Raises StoryError if its figures differ."""
        versions = ("--name", NAME, "--champion", "1", "--challenger", "2")
        lines = self.command("drift_job.py", "compare", *versions, statuses=(0, 4, 5)).splitlines()
        place = next(number for number, line in enumerate(lines) if line.startswith("Decision: "))
        decision = lines[place].removeprefix("Decision: ")
        tags = self.version("2").tags
        figures = self.client.get_run(tags["comparison_run"]).data.metrics
        enough = figures["evidence_for"] >= figures["evidence_needed"]
        expect(tags["comparison"].startswith(decision), f"The tag says {tags['comparison']}, the command {decision}.")
        expect(enough or decision != "promote", f"{decision}, with the figures {figures}")
        return decision, [line for line in lines[place + 1 :] if line.startswith("  ")]

    def version(self, number: str) -> ModelVersion:
        """As the registry has it now."""
        return self.client.get_model_version(NAME, number)

    def expect_in_production(self, number: str) -> None:
        """By stage and by alias; remembers the time. Raises StoryError."""
        found = self.version(number).current_stage, str(self.client.get_model_version_by_alias(NAME, "production").version)
        expect(found == ("Production", number), f"Version {number} is in {found[0]}; @production is version {found[1]}.")
        self.moments.setdefault(number, datetime.now(UTC))

    def _start(self, called: str, arguments: list[str], port: int) -> Served:
        url, command = f"http://127.0.0.1:{port}", [sys.executable, *arguments]
        return self._keep(called, started(command, url, "/ping", self.folder / called, self.env, PROJECT))

    def _keep(self, called: str, program: AbstractContextManager[Served]) -> Served:
        self._stops[called] = ExitStack()
        self.servers[called] = self._stops[called].enter_context(program)
        return self.servers[called]
