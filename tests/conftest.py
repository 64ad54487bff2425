"""Fixtures: one tracking server, one registered model and one served model for the whole session."""

import logging
import os
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pandas as pd
import pytest

from tests.support.selection import TENSORFLOW, loads_tensorflow, markers
from tests.support.servers import NAME, PROJECT, Served, environment, python, serve_model, serve_tracking

LONG = (
    "test_story.py",
    "test_readme.py",
    "test_stack.py",
    "test_training.py",
    "test_retrain.py",
    "test_drift_end_to_end.py",
    "test_ways_to_serve.py",
    "test_gate.py",
    "test_registry.py",
    "test_promotion_stores.py",
    "test_champion_challenger.py",
    "test_profile_spark.py",
    "test_resolve.py",
    "test_keras_source.py",
    "test_applications.py",
)
"""Files that take half a minute or more, the longest first."""
NOT_FAST = ("server", "process", "tensorflow", "slow")
os.environ["SETTINGS_FILE"] = "none"  # a stack that runs in this very checkout is no part of the tests
PHOTOS = Path(os.environ.get("EYE_DATA_DIR") or PROJECT.parent / "shared" / "data")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="only tests that need no server, no process and no TensorFlow")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--fast"):
        sys.modules.update(dict.fromkeys(TENSORFLOW))  # whoever imports it gets an ImportError


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --fast a file that needs TensorFlow, or whose tests are all slow, is not even imported."""
    if not config.getoption("--fast") or collection_path.suffix != ".py":
        return None
    module = ".".join(collection_path.relative_to(PROJECT).with_suffix("").parts)
    return True if collection_path.name in LONG or loads_tensorflow(module) else None


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    """Each test is marked by what it needs; long files first, so that no process is left with one while the others wait."""
    for item in items:
        names = markers(item) if isinstance(item, pytest.Function) else set()
        slow = item.path.name in LONG or "real_photos" in getattr(item, "fixturenames", ())
        for name in names | ({"slow"} if slow else set()):
            item.add_marker(name)
    if config.getoption("--fast"):
        fast = [item for item in items if not any(item.get_closest_marker(name) for name in NOT_FAST)]
        config.hook.pytest_deselected(items=[item for item in items if item not in fast])
        items[:] = fast
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A real MLflow tracking server."""
    with serve_tracking(tmp_path_factory.mktemp("tracking")) as server:
        yield server


@pytest.fixture(scope="session")
def registry(tracking: Served) -> dict[str, str]:
    """Environment of a client of the tracking server, in whose registry the bundled model is in Production."""
    env = environment(MLFLOW_TRACKING_URI=tracking.url)
    done = python("register.py", "register", "--stage", "Production", env=env)
    assert done.returncode == 0, done.stderr
    assert f"Registered {NAME} version 1" in done.stdout
    return env


@pytest.fixture(scope="session")
def served(registry: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`mlflow models serve` of the Production version, with two workers."""
    folder = tmp_path_factory.mktemp("served")
    with serve_model(f"models:/{NAME}/Production", folder, registry, "--workers", "2") as server:
        yield server


@pytest.fixture(scope="session")
def retina() -> bytes:
    """The sample fundus photo, 1411 x 1411."""
    return (PROJECT / "samples" / "retina.jpg").read_bytes()


@pytest.fixture(scope="session")
def real_photos() -> pd.DataFrame:
    """The manifest of real validation photos, with their files in the column `file`."""
    manifest = PHOTOS / "manifest.csv"
    if not manifest.is_file():
        pytest.skip(f"needs the real fundus photos: no {manifest.name} in EYE_DATA_DIR")
    rows = pd.read_csv(manifest).query("split == 'val'").reset_index(drop=True)
    return rows.assign(file=[PHOTOS / "fundus" / path for path in rows["path"]])


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """URL of an S3 server in this process."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def s3_bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """`s3://` URL of a new bucket, with this process's environment as its client."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{uuid4().hex[:12]}"
    urllib.request.urlopen(urllib.request.Request(f"{s3_server}/{name}", method="PUT")).close()
    return f"s3://{name}"


@pytest.fixture
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a power failure would notice."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
