"""The profile of records that Spark reads: one for each partition, where the data are, then merged. Needs pyspark.

On a cluster the packages `profiles` and `model_code` must be on the workers (`spark-submit --py-files`).
"""

import json
from collections.abc import Iterator
from functools import reduce

import pyarrow as pa
from pyspark.sql import DataFrame

from eye_disease.profiles.layout import Layout
from eye_disease.profiles.profile import Profile, profile_columns


def profile_of(records: DataFrame, layout: Layout) -> Profile:
    """The profile that `Profile.from_table` makes of the same records; only profiles travel, a few hundred kB a partition.

    records: the store's Parquet files, or any table with the inference log's fields as columns.
    """
    stored = json.dumps(layout.to_json())

    def of_partition(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        own = Layout.from_json(json.loads(stored))
        merged = reduce(Profile.merge, (Profile.from_table(batch, own) for batch in batches), Profile.empty(own))
        yield pa.RecordBatch.from_pydict({"profile": [json.dumps(merged.to_json())]})

    columns = [name for name in profile_columns(layout) if name in records.columns]
    parts = records.select(*columns).mapInArrow(of_partition, "profile string").toLocalIterator()
    profiles = (Profile.from_json(json.loads(row["profile"])) for row in parts)
    return reduce(Profile.merge, profiles, Profile.empty(layout))
