"""What `serve.py` serves: the registry's version, else the last good copy, else the bundled model, and never in silence."""

import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from eye_disease.serving.resolve import bundled_model, resolve
from eye_disease.serving.settings import RegistrySettings
from tests.support.servers import NAME, PROJECT, environment, free_port, python, read_records, started

DEAD = "http://127.0.0.1:9"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistrySettings]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("INFERENCE_LOG_DIR", str(tmp_path / "records"))
    monkeypatch.chdir(tmp_path)
    yield RegistrySettings(enabled=True, timeout_seconds=60, cache_dir=tmp_path / "cache")
    mlflow.set_tracking_uri(None)


def _use(uri: str) -> None:
    mlflow.set_tracking_uri(uri)


def test_registry_then_its_last_good_copy(
    registry: dict[str, str], settings: RegistrySettings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry["MLFLOW_TRACKING_URI"])
    _use(registry["MLFLOW_TRACKING_URI"])
    first = resolve(NAME, "Production", settings)
    assert (first.source, first.version) == ("registry", "1")
    assert caplog.text == ""

    _use(DEAD)
    second = resolve(NAME, "Production", settings)
    assert (second.source, second.version, second.folder) == ("cache", "1", first.folder)
    assert "NOT SERVING FROM THE REGISTRY" in caplog.text
    assert "version 1" in caplog.text


def test_without_a_copy_the_bundled_model_is_served(settings: RegistrySettings, caplog: pytest.LogCaptureFixture) -> None:
    _use(DEAD)
    found = resolve(NAME, "Production", settings)
    assert (found.source, found.version) == ("bundled", "bundled")
    assert "Serving the bundled model" in caplog.text
    answer = mlflow.pyfunc.load_model(str(found.folder)).predict({"image": [(PROJECT / "samples" / "retina.jpg").read_bytes()]})
    assert answer["model_version"].tolist() == ["bundled"]


def test_a_registry_without_that_stage_falls_back(
    registry: dict[str, str], settings: RegistrySettings, caplog: pytest.LogCaptureFixture
) -> None:
    _use(registry["MLFLOW_TRACKING_URI"])
    assert resolve("never-registered", "Production", settings).source == "bundled"
    assert "never-registered" in caplog.text


def test_a_disabled_registry_is_not_asked(settings: RegistrySettings, caplog: pytest.LogCaptureFixture) -> None:
    _use("http://name.invalid")
    disabled = RegistrySettings(enabled=False, timeout_seconds=1, cache_dir=settings.cache_dir)
    with caplog.at_level(logging.WARNING):
        assert resolve(NAME, "Production", disabled).source == "bundled"
    assert "ENABLE_MODEL_REGISTRY is false" in caplog.text


def test_the_bundled_model_is_made_once(tmp_path: Path) -> None:
    first = bundled_model(tmp_path)
    made = (first / "MLmodel").stat().st_mtime_ns
    assert bundled_model(tmp_path) == first
    assert (first / "MLmodel").stat().st_mtime_ns == made


def test_serve_with_a_hanging_registry_answers_with_the_bundled_model(tmp_path: Path, retina: bytes) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as hanging:  # accepts connections and says nothing
        env = environment(
            MLFLOW_TRACKING_URI=f"http://127.0.0.1:{hanging.getsockname()[1]}",
            REGISTRY_TIMEOUT_SECONDS="3",
            MODEL_CACHE_DIR=str(tmp_path / "cache"),
        )
        command = [sys.executable, str(PROJECT / "serve.py"), "--port", str(port)]
        with started(command, f"http://127.0.0.1:{port}", "/ping", tmp_path, env) as server:
            (answer,) = server.classify(retina)
            os.killpg(server.process.pid, signal.SIGTERM)
            server.process.wait(timeout=30)
    assert answer["model_version"] == "bundled"
    assert answer["predicted_class"] is not None
    said = server.output.read_text()
    assert "NOT SERVING FROM THE REGISTRY" in said
    assert "REGISTRY_TIMEOUT_SECONDS=3" in said
    (record,) = read_records(server.records)
    assert (record["model_version"], record["model_source"]) == ("bundled", "bundled")
    assert list((server.records / NAME).iterdir()) == [server.records / NAME / "bundled"]


def test_a_wrong_setting_stops_the_start(tmp_path: Path) -> None:
    for name, value in {
        "MAX_IMAGE_PIXELS": "many",
        "REGISTRY_TIMEOUT_SECONDS": "0",
        "ENABLE_MODEL_REGISTRY": "perhaps",
    }.items():
        done = python(str(PROJECT / "serve.py"), env=environment(**{name: value}), cwd=tmp_path)
        assert done.returncode == 1
        assert f"{name}={value!r}" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_damaged_copy_is_never_the_last_good_one(
    registry: dict[str, str], settings: RegistrySettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A version whose canary answer is wrong after download is not served."""
    _use(registry["MLFLOW_TRACKING_URI"])
    whole = mlflow.artifacts.download_artifacts

    def damaged(uri: str, dst_path: str) -> str:
        folder = whole(uri, dst_path=dst_path)
        expected = Path(folder) / "artifacts" / "package" / "canary.json"
        expected.write_text(json.dumps(json.loads(expected.read_text()) | {"predicted_class": "normal"}))
        return folder

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", damaged)
    assert resolve(NAME, "Production", settings).source == "bundled"
    assert "canary" in caplog.text
    assert not list(settings.cache_dir.glob(f"{NAME}/*"))
