"""Measures what a drift run costs as the records grow: time and peak memory, beside Evidently, DuckDB and a plain scan.

    python benchmarks/drift_scale.py [--sizes 100000,1000000,10000000] [--write] [--cache FOLDER] [--folder FOLDER]

Synthetic records without drift, in the job's own Parquet. The peers are installed into virtual environments below the cache
folder on the first run. Each step is a process of its own, run once; imports are not counted. 10 million records need 4 GB
of disk.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as papq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from benchmarks.drift_detectors import EVIDENTLY, Peer, environment_of
from benchmarks.machine import machine_lines, write_section
from eye_disease.monitoring.version_state import Memories, VersionMemory
from eye_disease.profiles.layout import stream_names
from eye_disease.profiles.reference import Reference
from eye_disease.records.lines import record_schema
from eye_disease.records.storage import Storage
from eye_disease.records.store import IngestState, RecordStore
from tests.support.drift_logs import give_reference, write_log
from tests.support.drift_records import CLASSES, START, make_records
from tests.support.logs import MODEL, NOON

FOLDER = Path(__file__).resolve().parent
DUCKDB = Peer("duckdb", ("duckdb==1.4.2",), "duckdb_scale.py", ())
EVIDENTLY_MOST = 1_000_000
"""Evidently needs ten times the time and memory for ten times the records: not the largest."""
NEW = 10_000
"""Records of the incremental run"""
STEPS = {
    "scan": "plain scan",
    "judge": "window and verdict",
    "duckdb": "DuckDB, figures only",
    "evidently": "Evidently",
    "run": f"a run of {NEW:,} new records",
}
"""Step -> heading of its column"""
_CHUNK = 100_000
_REFERENCE_RECORDS = 5_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="100000,1000000,10000000", help="numbers of records")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "eye-disease-classifier" / "benchmarks")
    parser.add_argument("--folder", type=Path, help="where the records are made, and removed again; else the temporary folder")
    parser.add_argument("--write", action="store_true", help="replace the section `Drift at scale` of benchmarks/RESULTS.md")
    asked = parser.parse_args()
    sizes = [int(size) for size in asked.sizes.split(",")]
    pythons = {peer.package: environment_of(peer, asked.cache) for peer in (EVIDENTLY, DUCKDB)}
    usual = make_records(_REFERENCE_RECORDS, seed=0)
    reference = Reference.build(usual, CLASSES, "benchmark", MODEL)
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=asked.folder) as temporary:
            rows.append(measure(Path(temporary), size, usual, reference, pythons))
    text = report(rows, " ".join(["python benchmarks/drift_scale.py", *sys.argv[1:]]))
    print(text)
    if asked.write:
        write_section("Drift at scale", text)


def measure(folder: Path, size: int, usual: pa.Table, reference: Reference, pythons: dict[str, Path]) -> dict[str, dict]:
    """Step -> what it printed, for a store of `size` records."""
    give_reference(folder / "state", reference)
    store = RecordStore(Storage(str(folder / "log")), MODEL, "1")
    files = fill(store, size)
    streams = [name for name in (*stream_names(CLASSES), "predicted_class") if name in usual.column_names]
    papq.write_table(usual.select(streams), folder / "reference.parquet")
    found: dict[str, dict] = {"size": {"records": size}}
    for step in ("scan", "judge"):
        found[step] = ask([sys.executable, str(FOLDER / "drift_scale_step.py"), step, str(folder)])
    for package, program in (("duckdb", "duckdb_scale.py"), ("evidently", "evidently_scale.py")):
        if package != "evidently" or size <= EVIDENTLY_MOST:
            peer = [str(pythons[package]), str(FOLDER / "peers" / program)]
            found[package] = ask([*peer, str(folder / "reference.parquet"), *map(str, files)])
    Memories(folder / "state").save(MODEL, "1", VersionMemory(commit=1, records=size, predictions=size, windows=1, judged=NOON))
    write_log(folder / "log", make_records(NEW, seed=1), NOON, "new")
    found["run"] = ask([sys.executable, str(FOLDER / "drift_scale_step.py"), "run", str(folder)])
    return found


def fill(store: RecordStore, size: int) -> list[Path]:
    """Records as ingest would have left them, a day for each million; returns the files."""
    schema, files = record_schema(CLASSES), []
    for start in range(0, size, 10 * _CHUNK):
        day = START - timedelta(days=30 - start // (10 * _CHUNK))
        path = Path(store.storage.full(store.part_path(f"{day:%Y-%m-%d}", 1)))
        path.parent.mkdir(parents=True)
        with papq.ParquetWriter(path, schema, compression="zstd") as writer:
            for first in range(start, min(start + 10 * _CHUNK, size), _CHUNK):
                records = make_records(min(_CHUNK, size - first), seed=2 + first // _CHUNK, sites=("a", "b", "c"))
                writer.write_table(as_stored(records, day, schema), row_group_size=65_536)
        files.append(path)
    store.save(IngestState(commit=1, classes=CLASSES, records=size))
    return files


def as_stored(records: pa.Table, day: datetime, schema: pa.Schema) -> pa.Table:
    """With all columns of the store; those the profile does not read are null."""
    known = {name: records[name] for name in records.column_names if name in schema.names}
    known["timestamp"] = pa.array(
        [day + timedelta(milliseconds=i) for i in range(len(records))], schema.field("timestamp").type
    )
    return pa.table([known.get(one.name, pa.nulls(len(records), one.type)) for one in schema], names=schema.names).cast(schema)


def ask(command: list[str]) -> dict:
    """The JSON object that a step prints. Raises RuntimeError with the end of its output."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=4 * 3600)
    if done.returncode != 0:
        raise RuntimeError(f"{command[1]}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def report(rows: list[dict[str, dict]], command: str) -> str:
    """Markdown."""
    measured = [[f"{row['size']['records']:,}", *(shown(row.get(step)) for step in STEPS)] for row in rows]
    ratios = [[f"{row['size']['records']:,}", *compared(row)] for row in rows]
    return "\n".join(
        [
            *machine_lines(["numpy", "pyarrow", "scipy"]),
            f"- Repeat: `{command}`",
            "",
            *table(["records", *STEPS.values()], measured),
            "",
            *table(["records", "over a plain scan", "Evidently over ours, time", "ours over Evidently, memory"], ratios),
            "",
            *verdicts(rows),
        ]
    )


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def compared(row: dict[str, dict]) -> list[str]:
    ours, peer = row["judge"], row.get("evidently")
    over = f"{ours['seconds'] / row['scan']['seconds']:.1f}x"
    if peer is None:
        return [over, "-", "-"]
    return [over, f"{peer['seconds'] / ours['seconds']:.0f}x", f"{ours['peak_mib'] / peer['peak_mib']:.2f}x"]


def verdicts(rows: list[dict[str, dict]]) -> list[str]:
    """Each budget and whether it is met."""
    over = max(row["judge"]["seconds"] / row["scan"]["seconds"] for row in rows)
    said = [f"- At most 4x a plain scan: {_met(over <= 4)}, {over:.1f}x at most"]
    for row in rows:
        if row["size"]["records"] == EVIDENTLY_MOST:
            ours, peer = row["judge"], row["evidently"]
            faster, memory = peer["seconds"] / ours["seconds"], ours["peak_mib"] / peer["peak_mib"]
            said.append(f"- 50x faster than Evidently at {EVIDENTLY_MOST:,} records: {_met(faster >= 50)}, {faster:.0f}x")
            said.append(f"- In a third of its memory: {_met(memory <= 1 / 3)}, {memory:.2f}x")
    return ["Budgets:", "", *said]


def _met(good: bool) -> str:
    return "met" if good else "MISSED"


def shown(step: dict | None) -> str:
    """Seconds and peak memory."""
    return f"{step['seconds']:.2f} s, {step['peak_mib']:,.0f} MiB" if step else "-"


if __name__ == "__main__":
    main()
