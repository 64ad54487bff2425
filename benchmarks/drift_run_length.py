"""How often merged windows raise an alarm though nothing has changed, and what an e-detector would do instead. Seeded.

    python benchmarks/drift_run_length.py [--photos-dir FOLDER] [--write] [--quick]

Windows are drawn from the answers on the validation photos of FOLDER (`manifest.csv`, `fundus/`), or from synthetic records.
Each reference is a draw of its own from the same answers, so that its error is in the figures as it is in a clinic's. Alarms of
single windows are not in it: `drift_power.py` measures those.
"""

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from benchmarks.drift_answers import Photographer, read_photos
from benchmarks.drift_lasting import drawn_reference
from benchmarks.e_detector import first_alarm, scores_of
from benchmarks.figures import table
from benchmarks.machine import machine_lines, write_section
from benchmarks.run_length import WINDOWS_A_YEAR, YEARS, CountedRecords, alarms, factors, factors_without_drift
from eye_disease.profiles.columns import numbers
from eye_disease.profiles.count_tests import Counts, ShiftTests
from eye_disease.verdict.lasting import SCALES, LastingDrift
from eye_disease.verdict.limits import DriftLimits
from tests.support.drift_records import CLASSES, make_records

FACTORS = (100, 10, 1)
"""Of all levels: how alarms become fewer shows where too few are seen to count"""
DECADE = YEARS * WINDOWS_A_YEAR
_REFERENCE_RECORDS = 1_000
_N, _QUIET, _CHANGE, _WITHIN = 100, 2_000, 64, 10
_SLACK = 4.0
"""Standard errors of the reference that the e-detector allows for: one in thirty streams is hardly ever further off"""


@dataclass(frozen=True)
class Plan:
    """How much is simulated: predictions a window, references, windows for each."""

    sizes: tuple[int, ...]
    references: int
    windows: int
    e_trials: int


FULL = Plan((50, 100, 1_000), 40, 8_760, 100)
QUICK = Plan((100,), 4, 2_000, 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos-dir", type=Path, help="folder with manifest.csv and fundus/; else synthetic records")
    parser.add_argument("--quick", action="store_true", help="some thousand windows, to see that it works")
    parser.add_argument("--write", action="store_true", help="replace the section `Run length` of benchmarks/RESULTS.md")
    asked = parser.parse_args()
    plan = QUICK if asked.quick else FULL
    if asked.photos_dir:
        photographer = Photographer()
        records, classes = photographer.score(read_photos(asked.photos_dir, "val")[0]), photographer.classes
    else:
        records, classes = make_records(2_000, seed=0), CLASSES
    rows = [row for n in plan.sizes for row in measure(records, classes, n, plan)]
    command = " ".join(["python benchmarks/drift_run_length.py", *(one for one in sys.argv[1:] if one.startswith("--"))])
    head = [*machine_lines(["numpy", "scipy"]), f"- Command: `{command}`", f"- {len(records):,} answers as the population"]
    columns = (
        "n",
        "levels",
        "windows",
        "with a finding",
        "alarms",
        "alarms in ten years",
        f"by scale ({', '.join(map(str, SCALES))})",
    )
    text = "\n".join(head) + "\n\n" + table(columns, rows) + "\n\n" + compare(records, classes, plan)
    print(text)
    if asked.write:
        write_section("Run length", text)


def measure(records: pa.Table, classes: tuple[str, ...], n: int, plan: Plan) -> list[tuple[str, ...]]:
    """Rows of the table, a factor of the levels each: what the windows of all references make of it."""
    found = {factor: [0, 0, np.zeros(len(SCALES), int)] for factor in FACTORS}
    total, start = 0, time.monotonic()
    for seed in range(plan.references):
        rng = np.random.default_rng(seed)
        reference = drawn_reference(records, classes, _REFERENCE_RECORDS, rng)
        population, judge = CountedRecords.of(records, reference.layout), LastingDrift(reference, DriftLimits())
        missed = np.concatenate(list(factors_without_drift(population, judge, n, plan.windows, rng)))
        total += len(missed)
        for factor, counted in found.items():
            drift = missed <= factor
            counted[0] += int(drift.any(axis=1).sum())
            counted[1] += alarms(drift.any(axis=1), DriftLimits())
            counted[2] += [alarms(one, DriftLimits()) for one in drift.T]
        print(f"n={n}: reference {seed + 1}, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return [
        (
            f"{n:,}",
            "ours" if factor == 1 else f"{factor} times ours",
            f"{total:,}",
            f"{windows / total:.4%}",
            str(raised),
            f"{raised / total * DECADE:.2f}",
            " ".join(map(str, by_scale)),
        )
        for factor, (windows, raised, by_scale) in found.items()
    ]


def compare(records: pa.Table, classes: tuple[str, ...], plan: Plan) -> str:
    """Table: what merged windows and the e-detector find of a class that becomes twice as common, and what without drift."""
    tried: dict[tuple[str, str], list[bool]] = {}
    for seed in range(plan.e_trials):
        rng = np.random.default_rng(10_000 + seed)
        reference = drawn_reference(records, classes, _REFERENCE_RECORDS, rng)
        population = CountedRecords.of(records, reference.layout)
        base, truth = Counts.of(reference.profile.whole, reference.layout), population.whole()
        judge, tests = LastingDrift(reference, DriftLimits()), ShiftTests(reference.layout, reference.parts.moments, base)
        scores = [
            tests.scores(i, base, base) for i, (_, kind) in enumerate(tests.names) if kind in ("mean_change", "rank_shift")
        ]
        slack = _SLACK * np.sqrt(_N / _REFERENCE_RECORDS)
        quiet = population.windows(rng, _N, _QUIET)
        cases = {"no drift": quiet}
        for name in classes:
            weights = 1 + numbers(records, f"prob_{name}")
            cases[f"{name} x 2"] = quiet[:_CHANGE].joined(population.windows(rng, _N, _WITHIN, weights))
        for case, windows in cases.items():
            first = 0 if case == "no drift" else _CHANGE
            at = {
                "merged windows": np.flatnonzero((factors(judge, windows, 0)[:, 1:] <= 1).any(axis=1)),
                "e-detector, the reference is the truth": _when(first_alarm(scores_of(windows, truth, scores), DECADE)),
                "e-detector, reference of 1,000": _when(first_alarm(scores_of(windows, base, scores), DECADE)),
                "the same, its error allowed for": _when(first_alarm(scores_of(windows, base, scores), DECADE, slack)),
            }
            for detector, found in at.items():
                tried.setdefault((case, detector), []).append(bool((found >= first).any()))
    cases, detectors = (list(dict.fromkeys(names)) for names in zip(*tried, strict=True))
    rows = [(case, *(f"{np.mean(tried[case, one]):.0%}" for one in detectors)) for case in cases]
    said = (
        f"Share of {plan.e_trials} trials with a finding: without drift in {_QUIET:,} windows of {_N}, else within {_WITHIN}."
    )
    return f"{said}\n\n{table(('case', *detectors), rows)}"


def _when(index: int | None) -> np.ndarray:
    return np.array([] if index is None else [index], int)


if __name__ == "__main__":
    main()
