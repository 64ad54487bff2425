"""Measures the served model against named peers: latency, throughput, start time, memory. Takes five to ten minutes.

    python benchmarks/serving.py [--write] [--quick] [--photos-dir FOLDER]

Needs the packages of requirements-test.txt, TensorFlow among them, for the peers. All traffic stays on 127.0.0.1. The exit
status says whether the run worked, not whether the budgets are kept.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
# Before mlflow is imported: nothing leaves this machine.
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}

from benchmarks.children import Bystanders, Loop, Server, mapped_files, resident_mib
from benchmarks.figures import Figures
from benchmarks.load import RequestError, Sample, measure
from benchmarks.machine import write_section
from benchmarks.photos import PhotoSet, photo_sets
from benchmarks.servers import FASTAPI, KERAS, LOOPS, NOOP, OURS, SERVERS, Peers
from benchmarks.serving_report import report

CLIENTS = (1, 4, 16)


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    starts: int
    counts: dict[str, dict[int, int]]
    """Peer -> clients -> requests a round. The slow peers get fewer, so that all take similar time."""


FULL = Plan(
    rounds=10,
    starts=5,
    counts={
        OURS: {1: 30, 4: 60, 16: 80},
        NOOP: {1: 30, 4: 60, 16: 80},
        KERAS: {1: 3, 4: 4, 16: 16},
        FASTAPI: {1: 8, 4: 12, 16: 16},
        **{name: {1: 30} for name in LOOPS},
    },
)
QUICK = Plan(
    rounds=1,
    starts=1,
    counts={
        OURS: {1: 20, 4: 24, 16: 32},
        NOOP: {1: 20, 4: 24, 16: 32},
        KERAS: {1: 2, 4: 4, 16: 16},
        FASTAPI: {1: 4, 4: 8, 16: 16},
        **{name: {1: 20} for name in LOOPS},
    },
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos-dir", type=Path, help="folder of JPEG photos to send instead of the samples")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it works; the figures are rough")
    parser.add_argument("--write", action="store_true", help="replace the section `Serving` of benchmarks/RESULTS.md")
    asked = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):  # leaving the blocks below then ends the children
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    photos = photo_sets(asked.photos_dir)
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), photos, QUICK if asked.quick else FULL)
    text = report(figures, photos, CLIENTS, shown_command(asked))
    print(text)
    if asked.write:
        write_section("Serving", text)


def run(folder: Path, photos: Sequence[PhotoSet], plan: Plan) -> Figures:
    figures = Figures()
    peers = Peers(folder)
    progress("making the models")
    peers.make_models()
    measure_starts(peers, plan.starts, figures)
    with ExitStack() as stack:
        progress("starting the servers")
        servers = {name: stack.enter_context(peers.server(name)) for name in SERVERS}
        loops = {name: stack.enter_context(peers.loop(name)) for name in LOOPS}
        for server in servers.values():
            server.wait_ready()
        peers.require_same_answers(servers)
        bystanders = Bystanders([*servers.values(), *loops.values()])
        measure_rounds(Bench(peers, servers, loops, photos, folder), plan, figures)
        figures.bystanders_share = bystanders.share()
        for name, server in servers.items():
            figures.resident_mib[name] = resident_mib(server.worker())
            figures.tensorflow_files[name] = mapped_files(server.worker(), "libtensorflow")
    return figures


def measure_starts(peers: Peers, starts: int, figures: Figures) -> None:
    """Ours and the no-op by turns; each one's first start, which fills the caches, is not counted."""
    for i in range(starts + 1):
        progress(f"start {i} of {starts}")
        for name in (OURS, NOOP):
            with peers.server(name) as server:
                seconds = server.wait_ready()
            if i > 0:
                figures.start_seconds.setdefault(name, []).append(seconds)


class Bench:
    """Running servers and loops, and what to send them."""

    def __init__(
        self,
        peers: Peers,
        servers: dict[str, Server],
        loops: dict[str, Loop],
        photos: Sequence[PhotoSet],
        folder: Path,
    ) -> None:
        self._servers, self._loops = servers, loops
        self.sizes = [one.name for one in photos]
        self._requests = {(name, one.name): peers.requests(name, one.files) for name in SERVERS for one in photos}
        self._paths = {one.name: _written(one, folder) for one in photos}

    def peers(self, size: str, clients: int) -> list[str]:
        """Who is measured at a setting."""
        servers = [name for name in SERVERS if name != KERAS or size == self.sizes[0]]  # its request has no photo size
        return [*servers, *LOOPS] if clients == 1 else servers

    def sample(self, peer: str, size: str, clients: int, count: int) -> Sample:
        """One measurement. Raises RequestError or ChildError if a request fails."""
        if peer in self._servers:
            try:
                return measure(self._servers[peer].port, self._requests[peer, size], clients, count)
            except (RequestError, OSError) as error:
                end = self._servers[peer].output_end()
                raise RequestError(f"{peer}, {size}, {clients} clients: {error}\n{end}") from error
        latencies = self._loops[peer].ask({"photos": self._paths[size], "count": count})
        return Sample(latencies, sum(latencies) / 1000)


def measure_rounds(bench: Bench, plan: Plan, figures: Figures) -> None:
    """Every peer at every setting, round by round: when the machine drifts, it drifts for all."""
    for i in range(plan.rounds):
        for size in bench.sizes:
            for clients in CLIENTS:
                progress(f"round {i + 1} of {plan.rounds}: {size}, {clients} clients")
                names = bench.peers(size, clients)
                turn = i % len(names)
                for peer in names[turn:] + names[:turn]:
                    sample = bench.sample(peer, size, clients, plan.counts[peer][clients])
                    figures.rounds.setdefault((peer, (size, clients)), []).append(sample)


def shown_command(asked: argparse.Namespace) -> str:
    parts = ["python benchmarks/serving.py", "--write" * asked.write, "--quick" * asked.quick]
    return " ".join(filter(None, [*parts, "--photos-dir FOLDER" if asked.photos_dir else ""]))


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _written(photos: PhotoSet, folder: Path) -> list[str]:
    paths = [folder / f"{photos.name}-{i}.jpg" for i in range(len(photos.files))]
    for path, data in zip(paths, photos.files, strict=True):
        path.write_bytes(data)
    return [str(path) for path in paths]


if __name__ == "__main__":
    main()
