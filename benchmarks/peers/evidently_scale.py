"""Evidently's DataDriftPreset on Parquet files: prints a JSON object with seconds and peak memory.

    python evidently_scale.py REFERENCE.parquet RECORDS.parquet...

Runs in an environment of its own; imports nothing of this project.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset


def peak_mib() -> float:
    """Most memory this process has had."""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def main() -> None:
    warnings.simplefilter("ignore")
    columns = pd.read_parquet(sys.argv[1]).columns.tolist()
    start = time.perf_counter()
    reference = pd.read_parquet(sys.argv[1])
    records = pd.concat([pd.read_parquet(path, columns=columns) for path in sys.argv[2:]])
    numeric = [name for name in columns if name != "predicted_class"]
    definition = DataDefinition(numerical_columns=numeric, categorical_columns=["predicted_class"])
    sides = [Dataset.from_pandas(one, data_definition=definition) for one in (records, reference)]
    found = Report([DataDriftPreset()]).run(*sides).dict()["metrics"]
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib(), "said": f"{len(found)} metrics"}))


if __name__ == "__main__":
    main()
