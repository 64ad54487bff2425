"""The report of `serving.py`: tables, budgets, and how the figures were got."""

from collections.abc import Sequence

import numpy as np

from benchmarks.figures import Figures, Setting, Verdict, percentile, spread, table, throughput
from benchmarks.machine import machine_lines
from benchmarks.photos import PhotoSet
from benchmarks.servers import FASTAPI, KERAS, LOOPS, NOOP, OURS, PLAIN, SERVERS

_PACKAGES = ("mlflow", "ai-edge-litert", "tensorflow", "keras", "fastapi", "uvicorn", "numpy", "pandas", "pillow")
_NOTES = """
- ours: the bundled model in `mlflow models serve`, one process, default settings, records written to disk.
- (a) a pyfunc of the same signature that answers a constant table, served alike and sent the same bytes.
- (b) in process, photo after photo: Pillow (`draft`, resize) and LiteRT, with as many threads as ours has for a photo that
  has the server to itself (INFERENCE_THREADS). (b2) the same by our functions, which also find the retinal disc, decode at
  twice the size for it, and mask. (b3) our model's `predict` as a whole: base64, checks, statistics, embedding, record. The
  floor is (a) + (b).
- (c) the same network as MLflow's Keras flavour in `mlflow models serve`; a request is the prepared tensor as JSON, the same
  whatever the photo's size. Decoding and preparing is the client's work there and is not counted.
- (d) FastAPI on uvicorn, one process: base64 JSON, Pillow, `model.predict`.
- The peers take turns within each round, in an order that shifts; p50, p99 and photos/s are over all rounds together, n is
  the number of answers. The slow peers get few requests, at 4 and 16 clients as few as one of each client a round; p99 of a
  small n is close to its maximum. "By round" is the lowest and highest ratio of any round (start: of any pair). The clients
  run on the same cores as the servers.
- Before measuring, ours and (c) must give the canary photo the same probabilities.
"""


def report(figures: Figures, photos: Sequence[PhotoSet], clients: Sequence[int], command: str) -> str:
    """The section as Markdown."""
    head = [
        *machine_lines(_PACKAGES),
        f"- Other programs used {figures.bystanders_share:.0%} of the machine's CPU time during the rounds",
        f"- Command: `{command}`",
        *(f"- {one.name}: {one.description}" for one in photos),
    ]
    parts = [
        "\n".join(head),
        "### Budgets\n\n" + _budget_table(figures, [one.name for one in photos]),
        "### Latency and throughput\n\n" + _latency_table(figures, [(one.name, n) for one in photos for n in clients]),
        "### Start and memory\n\n" + _process_table(figures),
        "### What is compared\n" + _NOTES,
    ]
    return "\n\n".join(part.strip() for part in parts)


def verdicts(figures: Figures, sizes: Sequence[str]) -> list[Verdict]:
    """Every budget of DESIGN.md that this run measures, except the one without a number (no TensorFlow)."""
    found = []
    for size in sizes:
        alone: Setting = (size, 1)
        ours, floor = figures.p50(OURS, alone), figures.p50(NOOP, alone) + figures.p50(PLAIN, alone)
        by_round = figures.p50_by_round(OURS, alone)
        floors = figures.p50_by_round(NOOP, alone) + figures.p50_by_round(PLAIN, alone)
        label = f"{size}, 1 client, p50"
        found.append(Verdict(f"ours / floor (a + b); {label}", ours / floor, 1.25, True, spread(by_round / floors)))
        for peer, limit in ((KERAS, 40), (FASTAPI, 8)):
            setting = (sizes[0], 1) if peer == KERAS else alone
            ratios = figures.p50_by_round(peer, setting) / by_round
            found.append(Verdict(f"{peer} / ours; {label}", figures.p50(peer, setting) / ours, limit, False, spread(ratios)))
    starts = {name: np.array(values) for name, values in figures.start_seconds.items()}
    value = float(np.median(starts[OURS]) / np.median(starts[NOOP]))
    found.append(Verdict("start to first /ping, ours / (a)", value, 1.2, True, spread(starts[OURS] / starts[NOOP])))
    for peer in (KERAS, FASTAPI):
        value = figures.resident_mib[OURS] / figures.resident_mib[peer]
        found.append(Verdict(f"resident memory of a worker, ours / {peer}", value, 0.35, True))
    return found


def _budget_table(figures: Figures, sizes: Sequence[str]) -> str:
    files = figures.tensorflow_files[OURS]
    shown = f"{len(files)} files"
    loaded = ("TensorFlow's libraries mapped into our worker", shown, "", "0", "**MISSED**" if files else "pass")
    rows = [verdict.cells() for verdict in verdicts(figures, sizes)]
    return table(("what", "measured", "by round", "budget", "verdict"), [*rows, loaded])


def _latency_table(figures: Figures, settings: Sequence[Setting]) -> str:
    rows = []
    for size, clients in settings:
        for peer in (*SERVERS, *LOOPS):
            if samples := figures.rounds.get((peer, (size, clients))):
                n = sum(len(sample.latencies_ms) for sample in samples)
                times = (f"{percentile(samples, q):.1f}" for q in (50, 99))
                rows.append((peer, size, str(clients), *times, f"{throughput(samples):.1f}", str(n)))
    return table(("what", "photo", "clients", "p50 ms", "p99 ms", "photos/s", "n"), rows)


def _process_table(figures: Figures) -> str:
    rows = []
    for name in SERVERS:
        starts = figures.start_seconds.get(name, [])
        start = f"{np.median(starts):.2f}" if starts else ""
        memory = f"{figures.resident_mib[name]:.0f}"
        rows.append((name, start, str(len(starts) or ""), memory, str(len(figures.tensorflow_files[name]))))
    header = ("server", "start s (median)", "starts", "worker VmRSS MiB after traffic", "`libtensorflow*` files mapped")
    return table(header, rows)
