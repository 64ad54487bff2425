"""Measures drift detection on real answers: false alarms without drift, detections by kind and strength, against named peers.

    python benchmarks/drift_power.py --photos-dir FOLDER [--write] [--quick] [--cache FOLDER]

FOLDER holds fundus photos in `fundus/` and their `manifest.csv` (path, label, split). The peers, Evidently and Alibi Detect,
are installed into virtual environments below the cache folder on the first run. The full run takes about an hour, most of it
the peers'; the quick one a few minutes. The exit status says whether the run worked, not whether the budget is kept.
"""

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}

from benchmarks.drift_answers import DEGRADATIONS, Degradation, Photographer, read_photos
from benchmarks.drift_detectors import OURS, PEERS, environment_of, judge_ours, judge_with
from benchmarks.drift_lasting import lasting_table, lasting_trials
from benchmarks.drift_power_report import NO_DRIFT, Counts, count, report
from benchmarks.drift_windows import Population, Trial, diluted, from_population, held_out, mixed
from benchmarks.machine import write_section

SIZES = (50, 100, 200, 500, 1000, 5000)
HELD_OUT, POPULATION, DRIFT = "held out", "population", "drift"
WEAK = ("colour cast: 12 %", "wrong crop: 10 %")
"""Beside classes twice as common: too weak for one window"""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    references: int
    """Of each kind of windows without drift"""
    windows: int
    """Without drift, for each reference and size"""
    peer_windows: dict[str, int]
    """Package -> windows of each reference and case that a peer judges"""
    peer_references: int
    """Of each kind, the first ones, that peers judge too"""
    drift_references: int
    drift_windows: int
    drift_sizes: tuple[int, ...]
    drift_quiet: int
    """Windows without drift beside them, for each reference and size: the peers' levels are set by these"""
    lasting: int
    """Trials of drift that lasts"""
    degradations: tuple[Degradation, ...] = DEGRADATIONS
    train_photos: bool = True
    """Whether the windows without drift are also drawn from the training split"""
    no_drift_n: int = 1000
    """Size of the references of windows without drift"""


FULL = Plan(20, 50, {"evidently": 2, "alibi-detect": 10}, 6, 10, 10, (100, 300), 40, 100)
_WEAK_ONES = tuple(how for how in DEGRADATIONS if f"{how.kind}: {how.strength}" in WEAK)
QUICK = Plan(1, 2, {"evidently": 2, "alibi-detect": 4}, 1, 1, 4, (100,), 12, 10, _WEAK_ONES, train_photos=False, no_drift_n=500)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos-dir", type=Path, required=True, help="folder with manifest.csv and fundus/")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "eye-disease-classifier" / "benchmarks")
    parser.add_argument("--quick", action="store_true", help="a few windows, to see that it works; the figures mean little")
    parser.add_argument("--write", action="store_true", help="replace the section `Drift detection` of benchmarks/RESULTS.md")
    asked = parser.parse_args()
    plan = QUICK if asked.quick else FULL
    pythons = {peer: environment_of(peer, asked.cache) for peer in PEERS}
    progress("scoring the photos")
    classes, worlds, lasting = make_worlds(asked.photos_dir, plan)
    counts: Counts = {}
    for world, made in worlds.items():
        for i, trial in enumerate(made):
            progress(f"{world}: reference {i + 1} of {len(made)}, {len(trial.windows)} windows")
            count(counts, world, OURS, trial.windows, judge_ours(trial, classes))
            for peer, python in pythons.items() if i < plan.peer_references else ():
                chosen = first_of_each(trial, plan.peer_windows[peer.package], plan.drift_quiet if world == DRIFT else 0)
                answers = judge_with(peer, python, trial, chosen, classes)
                for detector, findings in zip(peer.detectors, zip(*answers, strict=True), strict=True):
                    count(counts, world, detector, [trial.windows[k] for k in chosen], findings)
    sizes = {world: f"{len(made)} references of {len(made[0].reference):,} records" for world, made in worlds.items()}
    text = report(counts, sizes, lasting, shown_command(asked))
    print(text)
    if asked.write:
        write_section("Drift detection", text)


def make_worlds(folder: Path, plan: Plan) -> tuple[tuple[str, ...], dict[str, list[Trial]], str]:
    """The model's classes, all references and windows, and the table of drift that lasts."""
    photographer = Photographer()
    photos, labels = read_photos(folder, "val")
    usual = photographer.score(photos)
    everything = pa.concat_tables([usual, photographer.score(read_photos(folder, "train")[0])]) if plan.train_photos else usual
    same = Population(NO_DRIFT, None, everything)
    quiet = [Population(NO_DRIFT, None, usual)] * (plan.drift_quiet // plan.drift_windows)
    changed = [
        Population(f"{how.kind}: {how.strength}", "acquisition", photographer.score_degraded(photos, how))
        for how in plan.degradations
    ]
    strange = photographer.score_not_fundus(100)
    changed += [diluted(usual, strange, share, "not fundus") for share in (0.05, 0.20)]
    changed += [mixed(usual, labels, label, factor) for label in photographer.classes for factor in (2, 4)]
    no_drift = (plan.no_drift_n, SIZES, plan.windows)
    progress("drift that lasts")
    weak = [one for one in changed if one.case in WEAK or (one.case.startswith("class mix") and one.case.endswith("x 2"))]
    lasting = lasting_table(lasting_trials(usual, weak, photographer.classes, plan.lasting, 3000), labels)
    worlds = {
        HELD_OUT: [held_out(everything, *no_drift, seed) for seed in range(plan.references)],
        POPULATION: [from_population(everything, [same], *no_drift, 1000 + seed) for seed in range(plan.references)],
        DRIFT: [
            from_population(usual, [*quiet, *changed], len(usual), plan.drift_sizes, plan.drift_windows, 2000 + seed)
            for seed in range(plan.drift_references)
        ],
    }
    return photographer.classes, worlds, lasting


def first_of_each(trial: Trial, most: int, quiet: int) -> list[int]:
    """Indices of the first windows of each case and size; quiet: how many of those without drift, if more."""
    seen: dict[tuple[str, int], int] = {}
    chosen = []
    for i, window in enumerate(trial.windows):
        key = (window.case, len(window.records))
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= (max(most, quiet) if window.case == NO_DRIFT else most):
            chosen.append(i)
    return chosen


def shown_command(asked: argparse.Namespace) -> str:
    parts = ["python benchmarks/drift_power.py --photos-dir FOLDER", "--write" * asked.write, "--quick" * asked.quick]
    return " ".join(filter(None, parts))


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
