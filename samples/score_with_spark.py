"""Score a folder of photos, or a Parquet table with an `image` column of bytes, on Spark: the way to score millions.

    pip install -r requirements.txt -r requirements-spark.txt      (and Java 17)
    python samples/score_with_spark.py models:/eye-disease-classifier/Production PHOTOS ANSWERS.parquet

Every executor writes the records of its answers below its INFERENCE_LOG_DIR.
"""

import argparse
import os
import sys

import mlflow
from pyspark.sql import Column, DataFrame, SparkSession, functions

ANSWER = {
    "prediction_id": "string",
    "predicted_class": "string",
    "confidence": "double",
    "decision": "string",
    "model_version": "string",
    "error_code": "string",
}
"""Columns of the answer to keep. No booleans: MLflow would turn their nulls, the answer to a bad photo, into false."""
PHOTOS_PER_BATCH = 64
"""Photos in one Arrow batch. Spark's default of 10,000 would need gigabytes, and is above MAX_REQUEST_ROWS."""


def read_photos(spark: SparkSession, path: str) -> DataFrame:
    """Columns `image` (bytes) and `image_id`, from a `.parquet` table or a folder of image files."""
    if path.endswith(".parquet"):
        return spark.read.parquet(path)
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(path)
    # Not the file's name: it may hold a patient's.
    return files.select(functions.col("content").alias("image"), functions.md5("path").alias("image_id"))


def as_columns(answer: Column) -> list[Column]:
    """The answer's fields as columns. MLflow turns a null string into the text None; this turns it back."""
    fields = {name: answer[name] for name in ANSWER}
    nulls = {name: functions.nullif(fields[name], functions.lit("None")) for name, kind in ANSWER.items() if kind == "string"}
    return [column.alias(name) for name, column in (fields | nulls).items()]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="models:/NAME/STAGE, runs:/... or a model folder")
    parser.add_argument("photos")
    parser.add_argument("answers", help="Parquet folder to write")
    asked = parser.parse_args()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.appName("eye-disease-classifier").getOrCreate()
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", PHOTOS_PER_BATCH)
    answer_type = ", ".join(f"{name} {kind}" for name, kind in ANSWER.items())
    classify = mlflow.pyfunc.spark_udf(spark, asked.model, env_manager="local", result_type=answer_type)
    photos = read_photos(spark, asked.photos)
    answers = photos.select("image_id", classify(functions.struct("image", "image_id")).alias("answer"))
    answers.select("image_id", *as_columns(functions.col("answer"))).write.mode("overwrite").parquet(asked.answers)
    spark.stop()


if __name__ == "__main__":
    main()
