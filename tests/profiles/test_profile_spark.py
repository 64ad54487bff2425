"""Spark's profile of the store's Parquet is the one a single process makes, and so is the verdict."""

import os
import shutil
import sys
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from eye_disease.monitoring.window import read_window
from eye_disease.profiles.reference import Reference
from eye_disease.records.ingest import ingest
from eye_disease.records.storage import Storage
from eye_disease.records.store import RecordStore
from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.verdict import judge
from tests.support.drift_logs import write_log
from tests.support.drift_records import CLASSES, make_errors, make_records
from tests.support.logs import MODEL, NOON


@pytest.mark.skipif(not shutil.which("java"), reason="Spark needs Java 17, which is not installed")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Spark's own sockets
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # and its use of old names
@pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")  # no pandas here
@pytest.mark.usefixtures("no_waiting_for_the_disk")
def test_partitions_merge_to_the_same_profile_and_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyspark.sql import SparkSession

    from eye_disease.profiles.spark import profile_of

    store = RecordStore(Storage(str(tmp_path)), MODEL, "1")
    for day in range(3):
        start = NOON + timedelta(days=day)
        records = make_records(200, seed=day, sites=("a", "b", None), sharpness=0.7)
        write_log(tmp_path, pa.concat_tables([records, make_errors(5)]), start, f"p{day}")
        ingest(store, start)
    reference = Reference.build(make_records(200, seed=9), CLASSES, "validation", MODEL)
    alone = read_window(store, 0, reference.layout, 615).profile

    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    settings = {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "2", "spark.sql.files.maxPartitionBytes": "65536"}
    builder = SparkSession.builder.master("local[2]").appName("profile")
    spark = builder.config(map=settings).getOrCreate()
    try:
        table = spark.read.parquet(*(store.storage.full(part.path) for part in store.parts()))
        partitions = table.rdd.getNumPartitions()
        together = profile_of(table, reference.layout)
    finally:
        spark.stop()

    assert partitions >= 2
    assert (together.whole.answered, together.whole.failed) == (600, 15)
    assert together.to_json() == alone.to_json()
    verdicts = [judge(profile, reference, DriftLimits()).to_json() for profile in (alone, together)]
    assert verdicts[0] == verdicts[1]
    assert (verdicts[0]["status"], verdicts[0]["kind"]) == ("drift", "acquisition")
