"""The other ways MLflow offers to run the model: URIs, environments, `predict`, a Dockerfile, Spark."""

import base64
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pyarrow.parquet
import pytest

from eye_disease.serving.resolve import bundled_model
from tests.support.servers import NAME, PROJECT, environment, read_records, run, serve_model


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model as a local MLflow model folder."""
    return bundled_model(tmp_path_factory.mktemp("bundled"))


def _is_good(answer: dict[str, Any], version: str) -> bool:
    return answer["error"] is None and answer["model_version"] == version and 0.25 <= answer["confidence"] <= 1


def test_run_uri(registry: dict[str, str], tmp_path: Path, retina: bytes) -> None:
    client = mlflow.MlflowClient(registry["MLFLOW_TRACKING_URI"])
    run_id = client.get_model_version(NAME, "1").run_id
    with serve_model(f"runs:/{run_id}/model", tmp_path, registry) as server:
        assert _is_good(server.classify(retina)[0], "unregistered")


def test_models_predict(registry: dict[str, str], tmp_path: Path, retina: bytes) -> None:
    request = tmp_path / "request.json"
    rows = [{"image": base64.b64encode(retina).decode()}]
    request.write_text(json.dumps({"dataframe_records": rows, "params": {"explain": True}}))
    answer = tmp_path / "answer.json"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "predict",
        "-m",
        f"models:/{NAME}/Production",
        "--env-manager",
        "local",
    ]
    done = run(*command, "-i", str(request), "-o", str(answer), "-t", "json", env=registry, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(answer.read_text())["predictions"]
    assert _is_good(row, "1")
    assert row["heatmap_png"]


def test_load_model_takes_a_table_of_bytes(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERENCE_LOG_DIR", str(tmp_path / "records"))
    photos = [path.read_bytes() for path in sorted((PROJECT / "samples").glob("*.jpg"))]
    answers = mlflow.pyfunc.load_model(str(model_folder)).predict(pd.DataFrame({"image": photos}))
    assert answers["error"].tolist() == [None] * len(photos)
    assert [one["prediction_id"] for one in read_records(tmp_path / "records")] == answers["prediction_id"].tolist()


def test_generate_dockerfile(model_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mlflow", "models", "generate-dockerfile", "-m", str(model_folder), "-d", "image"]
    done = run(*command, env=environment(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    dockerfile = (tmp_path / "image" / "Dockerfile").read_text()
    assert dockerfile.startswith("# Build an image")
    assert len(list((tmp_path / "image" / "model_dir").glob("*/artifacts/package/classifier.tflite"))) == 1


def test_spark_scores_a_folder_of_photos(registry: dict[str, str], tmp_path: Path) -> None:
    if not shutil.which("java"):
        pytest.skip("Spark needs Java 17, which is not installed")
    photos = tmp_path / "photos"
    shutil.copytree(PROJECT / "samples", photos, ignore=shutil.ignore_patterns("*.py"))
    (photos / "broken.jpg").write_bytes(b"no image")
    env = registry | {"INFERENCE_LOG_DIR": str(tmp_path / "records"), "SPARK_LOCAL_IP": "127.0.0.1"}
    script = str(PROJECT / "samples" / "score_with_spark.py")
    done = run(sys.executable, script, f"models:/{NAME}/Production", str(photos), "answers.parquet", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = pyarrow.parquet.read_table(tmp_path / "answers.parquet").to_pylist()
    assert len(answers) == 5
    (broken,) = [one for one in answers if one["error_code"] is not None]
    assert (broken["error_code"], broken["predicted_class"], broken["confidence"]) == ("format_unsupported", None, None)
    assert {one["model_version"] for one in answers} == {"1"}
    assert {one["prediction_id"] for one in read_records(tmp_path / "records")} == {one["prediction_id"] for one in answers}
