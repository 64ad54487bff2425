"""A version of the release before the move into one package: served, on record, replayed, judged, rolled back to.

What that release wrote (the version, its records, the drift job's state) is made here by its own programs.
"""

import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from eye_disease.registry.promotion import promote
from eye_disease.registry.register import register_package
from eye_disease.registry.versions import in_stage
from tests.support.photos import PACKAGE
from tests.support.servers import NAME, PROJECT, Served, environment, free_port, python, read_records, started
from tests.support.versions import passed, sqlite_store

BEFORE = "63f82ef3daa13fa7ada3cac25b25c22d52d49e31"
"""The last commit before the move."""
PHOTOS = 60
"""Enough for a verdict"""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release before the move, unpacked."""
    archive = subprocess.run(["git", "archive", BEFORE], cwd=PROJECT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"this checkout does not hold commit {BEFORE[:7]} (a shallow clone, or none)")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def settings(before: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of all programs; its registry holds the old release's version in Production."""
    folder = tmp_path_factory.mktemp("store")
    with sqlite_store(folder) as uri:
        env = environment(
            MLFLOW_TRACKING_URI=uri,
            INFERENCE_LOG_DIR=str(folder / "records"),
            MONITORING_DIR=str(folder / "monitoring"),
            MODEL_CACHE_DIR=str(folder / "cache"),
        )
        done = python("register.py", "register", "--stage", "Production", env=env, cwd=before)
        assert done.returncode == 0, done.stderr
        yield env


@pytest.fixture(scope="module")
def served(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    port = free_port()
    command = [sys.executable, "serve.py", "--stage", "Production", "--port", str(port)]
    with started(command, f"http://127.0.0.1:{port}", "/ping", tmp_path_factory.mktemp("served"), settings, PROJECT) as server:
        yield server


def test_it_is_served_judged_replayed_and_rolled_back_to(
    before: Path, settings: dict[str, str], served: Served, retina: bytes, tmp_path: Path
) -> None:
    answers = served.classify(*[retina] * PHOTOS)
    assert {(answer["model_version"], answer["error"]) for answer in answers} == {("1", None)}
    records = Path(settings["INFERENCE_LOG_DIR"])
    assert {record["model_source"] for record in read_records(records)} == {"registry"}
    assert "other_finding" not in answers[0], "the old release's own code answers"

    # Its drift job leaves its state behind; today's goes on from there and counts every answer once.
    assert python("drift_job.py", "run", env=settings, cwd=before).returncode == 0
    more = served.classify(*[retina] * PHOTOS)
    job = python("drift_job.py", "run", env=settings)
    assert job.returncode == 0, job.stderr
    assert f"{NAME} version 1: drift (window 2," in job.stdout
    assert f"n={PHOTOS}" in job.stdout
    assert mlflow.MlflowClient().get_model_version(NAME, "1").tags["drift_status"] == "drift", "always the same photo"

    photo = tmp_path / "photo.jpg"
    photo.write_bytes(retina)
    for answer in (answers[0], more[0]):
        again = python(
            "drift_job.py", "replay", "--prediction-id", answer["prediction_id"], "--image", str(photo), env=settings
        )
        assert again.returncode == 0, again.stderr
        assert f"the same answer: {answer['predicted_class']}" in again.stdout

    version = register_package(PACKAGE, NAME).version
    promote(NAME, version, "Production", judged=passed(NAME, version))
    back = python("register.py", "rollback", "--reason", "the old one was better", env=settings)
    assert back.returncode == 0, back.stderr
    holder = in_stage(NAME, "Production")
    assert holder is not None and holder.version == "1"
