"""DuckDB: mean, deviation and three quantiles of every numeric column of Parquet files, and the class counts.

    python duckdb_scale.py REFERENCE.parquet RECORDS.parquet...

Runs in an environment of its own; imports nothing of this project. Prints a JSON object with seconds and peak memory.
"""

import json
import sys
import time
from pathlib import Path

import duckdb


def peak_mib() -> float:
    """Most memory this process has had."""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def main() -> None:
    start = time.perf_counter()
    columns = [row[0] for row in duckdb.sql(f"describe select * from read_parquet('{sys.argv[1]}')").fetchall()]
    numeric = [name for name in columns if name != "predicted_class"]
    figures = ", ".join(
        f"avg({name}), stddev({name}), approx_quantile({name}, [0.1, 0.5, 0.9])" for name in (f'"{one}"' for one in numeric)
    )
    table = f"read_parquet({sys.argv[2:]!r})"
    found = duckdb.sql(f"select {figures} from {table}").fetchone()
    classes = duckdb.sql(f"select predicted_class, count(*) from {table} group by all").fetchall()
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib(), "said": f"{len(found)} figures, {len(classes)} classes"}))


if __name__ == "__main__":
    main()
