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
from mlflow import MlflowClient

from eye_disease.cli import serve
from eye_disease.common.paths import BUNDLED_PACKAGE
from eye_disease.registry.promotion import promote
from eye_disease.registry.register import register_package
from eye_disease.serving.cache import ModelCache
from eye_disease.serving.resolve import RefusedVersionError, Resolved, bundled_model, resolve
from eye_disease.serving.settings import RegistrySettings
from tests.support.servers import NAME, PROJECT, environment, free_port, python, read_records, started
from tests.support.versions import passed, sqlite_store

DEAD = "http://127.0.0.1:9"
MODEL = "resolved"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry with the bundled model as version 1 of MODEL, in Production."""
    with sqlite_store(tmp_path_factory.mktemp("store")) as uri:
        register_package(BUNDLED_PACKAGE, MODEL)
        promote(MODEL, "1", "Production", judged=passed(MODEL, "1"))
        yield uri


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistrySettings]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("INFERENCE_LOG_DIR", str(tmp_path / "records"))
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    yield RegistrySettings(enabled=True, timeout_seconds=280, cache_dir=tmp_path / "cache")
    mlflow.set_tracking_uri(uri)


def _use(uri: str) -> None:
    mlflow.set_tracking_uri(uri)


def test_registry_then_its_last_good_copy(store: str, settings: RegistrySettings, caplog: pytest.LogCaptureFixture) -> None:
    first = resolve(MODEL, "Production", settings)
    assert (first.source, first.version) == ("registry", "1")
    assert caplog.text == ""

    _use(DEAD)
    second = resolve(MODEL, "Production", settings)
    assert (second.source, second.version, second.folder) == ("cache", "1", first.folder)
    assert "NOT SERVING FROM THE REGISTRY" in caplog.text
    assert "version 1" in caplog.text
    assert "Connection refused" in caplog.text

    _use(store)
    caplog.clear()
    receipt = first.folder.with_name(f"{first.folder.name}.json")
    receipt.write_text("garbage")
    (settings.cache_dir / MODEL / "last_good.json").write_text("")
    again = resolve(MODEL, "Production", settings)  # its canary photo says that the copy is whole
    assert (again.source, again.folder) == ("registry", first.folder)
    assert f"{receipt} is damaged" in caplog.text
    assert "last_good.json is damaged" in caplog.text

    network = first.folder / "artifacts" / "package" / "classifier.tflite"
    network.write_bytes(network.read_bytes()[:1000])
    again = resolve(MODEL, "Production", settings)
    assert (again.source, again.folder) == ("registry", first.folder)
    assert f"{first.folder} is damaged" in caplog.text
    assert network.stat().st_size > 1000


def test_the_last_good_copy_of_staging_is_not_served_as_production(
    store: str, settings: RegistrySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy is made of what a stage holds, and stands in for that stage only."""
    cache = ModelCache(settings.cache_dir / MODEL)
    with cache.incoming() as folder:
        (folder / "model").mkdir()
        (folder / "model" / "MLmodel").write_text("")
        cache.add("2-candidate", folder / "model")
    cache.remember("Staging", "2-candidate", "2")
    _use(DEAD)
    assert resolve(MODEL, "Production", settings).source == "bundled"
    assert resolve(MODEL, "Staging", settings).version == "2"


def test_without_a_copy_the_bundled_model_is_served(settings: RegistrySettings, caplog: pytest.LogCaptureFixture) -> None:
    _use(DEAD)
    resolved = resolve(NAME, "Production", settings)
    assert (resolved.source, resolved.version) == ("bundled", "bundled")
    assert "Serving the bundled model" in caplog.text
    answer = mlflow.pyfunc.load_model(str(resolved.folder)).predict(
        {"image": [(PROJECT / "samples" / "retina.jpg").read_bytes()]}
    )
    assert answer["model_version"].tolist() == ["bundled"]


def test_where_nothing_is_in_the_stage_the_bundled_model_is_served(
    store: str, settings: RegistrySettings, caplog: pytest.LogCaptureFixture
) -> None:
    """Even if there is a copy: somebody has taken that version out of the stage."""
    assert resolve("never-registered", "Production", settings).source == "bundled"
    assert "no version of never-registered is in Production" in caplog.text
    assert resolve(MODEL, "Staging", settings).source == "bundled"


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
    output = server.output.read_text()
    assert "NOT SERVING FROM THE REGISTRY" in output
    assert "REGISTRY_TIMEOUT_SECONDS=3" in output
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


def _spoil(folder: Path) -> None:
    expected = folder / "artifacts" / "package" / "canary.json"
    expected.write_text(json.dumps(json.loads(expected.read_text()) | {"predicted_class": "cataract", "confidence": 0.5}))


def test_a_refused_version_is_no_unreachable_registry(
    store: str, settings: RegistrySettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A version with a wrong canary answer is not served, nor is anything in its place unless that is allowed."""
    whole = mlflow.artifacts.download_artifacts

    def damaged(uri: str, dst_path: str) -> str:
        folder = whole(uri, dst_path=dst_path)
        _spoil(Path(folder))
        return folder

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", damaged)
    with pytest.raises(RefusedVersionError, match=rf"s Production version of {MODEL} is refused: .*canary.*--fallback"):
        resolve(MODEL, "Production", settings)
    assert caplog.text == ""
    assert not list(settings.cache_dir.glob(f"{MODEL}/*"))
    assert resolve(MODEL, "Production", settings, fallback=True).source == "bundled"
    assert "NOT SERVING FROM THE REGISTRY: the registry's Production version of" in caplog.text


def test_serve_ends_where_the_version_is_refused(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "refused"
    register_package(BUNDLED_PACKAGE, name)
    promote(name, "1", "Production", judged=passed(name, "1"))
    source = MlflowClient().get_model_version_download_uri(name, "1")
    _spoil(Path(mlflow.artifacts.download_artifacts(source)))  # in the artifact store itself, which is on this machine
    monkeypatch.setenv("MODEL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("REGISTRY_TIMEOUT_SECONDS", "280")
    monkeypatch.setattr(serve, "exec_server", lambda model, *_: pytest.fail(f"{model} is served"))
    monkeypatch.setattr("sys.argv", ["serve.py", "--name", name, "--stage", "Production"])
    with pytest.raises(SystemExit, match=rf"serve\.py: The registry's Production version of {name} is refused: .*canary"):
        serve.main()

    served: list[Resolved] = []
    monkeypatch.setattr(serve, "exec_server", lambda model, *_: served.append(model))
    monkeypatch.setattr("sys.argv", ["serve.py", "--name", name, "--stage", "Production", "--fallback"])
    serve.main()
    assert [model.source for model in served] == ["bundled"]
