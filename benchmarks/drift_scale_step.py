"""One measured step of drift_scale.py, in a process of its own: prints a JSON object with seconds and peak memory.

    python benchmarks/drift_scale_step.py judge|scan|run FOLDER

Imports are not counted; they take as long for one record as for ten million.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from eye_disease.monitoring.job import DriftJob
from eye_disease.monitoring.settings import MonitoringSettings
from eye_disease.monitoring.window import read_window
from eye_disease.profiles.profile import profile_columns
from eye_disease.profiles.reference import REFERENCE_FILE, Reference
from eye_disease.records.storage import Storage
from eye_disease.records.store import RecordStore, find_stores
from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.verdict import judge


def judge_all(folder: Path) -> str:
    """Profile and verdict of every record of the store, as one window."""
    store, reference = _opened(folder)
    window = read_window(store, 0, reference.layout, store.state().records)
    return judge(window.profile, reference, DriftLimits()).status


def scan(folder: Path) -> str:
    """Read the same columns of the same records, and do nothing with them."""
    store, reference = _opened(folder)
    columns = [name for name in profile_columns(reference.layout) if name in store.columns()]
    return str(sum(len(batch) for batch in store.read_batches(columns, canary=True)))


def run_job(folder: Path) -> str:
    """A whole run: ingest, window, verdict, memory; without MLflow."""
    env = {"INFERENCE_LOG_DIR": str(folder / "log"), "MONITORING_DIR": str(folder / "state"), "ENABLE_MLFLOW_TRACKING": "false"}

    def no_writer() -> None:
        raise AssertionError("nothing is written to MLflow")

    job = DriftJob(MonitoringSettings.from_env(env), DriftLimits(), no_writer, now=lambda: datetime(2026, 3, 1, 13, tzinfo=UTC))
    (outcome,) = job.run()
    return f"{outcome.findings.verdict.status} {outcome.findings.verdict.n}" if outcome.findings else outcome.why_not


def _opened(folder: Path) -> tuple[RecordStore, Reference]:
    (store,) = find_stores(Storage(str(folder / "log")))
    return store, Reference.load(folder / "state" / "packages" / store.model / store.version / REFERENCE_FILE)


STEPS: dict[str, Callable[[Path], str]] = {"judge": judge_all, "scan": scan, "run": run_job}


def peak_mib() -> float:
    """Most memory this process has had. (getrusage would count what its parent had when it was started.)"""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def main() -> None:
    before = peak_mib()
    start = time.perf_counter()
    said = STEPS[sys.argv[1]](Path(sys.argv[2]))
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib(), "imported_mib": before, "said": said}))


if __name__ == "__main__":
    main()
