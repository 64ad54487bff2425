"""A version whose code answers otherwise than this tree's: everybody who asks it gets its own answer, and nobody refuses it."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from deploy.check_versions import problems
from eye_disease.cli import register
from eye_disease.common.model_process import ask
from eye_disease.monitoring.package_cache import Packages
from eye_disease.monitoring.replay import replay
from eye_disease.records.storage import Storage
from eye_disease.registry.promotion import promote, rollback
from eye_disease.registry.register import RegisteredVersion
from eye_disease.registry.versions import FetchedVersion, in_stage
from eye_disease.serving.resolve import resolve
from eye_disease.serving.settings import RegistrySettings
from model_code.canary import expected_answer
from model_code.classifier import Classifier
from model_code.settings import ServingSettings
from tests.support.other_code import register_other_code
from tests.support.photos import PACKAGE
from tests.support.servers import PROJECT, environment, free_port, python, read_records, started
from tests.support.versions import make_version, passed, sqlite_store

pytestmark = pytest.mark.process

MODEL = "of-another-release"
SAMPLE = PROJECT / "samples" / "retina.jpg"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of a registry of this module's own, which is this process's; no server is at work."""
    with sqlite_store(tmp_path_factory.mktemp("store")) as uri:
        yield uri


@pytest.fixture(scope="module")
def version(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of MODEL."""
    with pytest.MonkeyPatch.context() as patch:
        yield register_other_code(MODEL, tmp_path_factory.mktemp("other"), patch).version


@pytest.fixture(scope="module")
def confidence() -> float:
    """What this tree's code answers, halved."""
    answered = Classifier(PACKAGE, "1", ServingSettings.from_env({})).classify(SAMPLE.read_bytes())
    return float(answered.answer["confidence"]) / 2


def test_it_is_registered_and_answers_with_its_own_code(version: str, confidence: float, tmp_path: Path) -> None:
    fetched = FetchedVersion.fetch(MODEL, version, tmp_path)
    assert ask(fetched.folder, SAMPLE.read_bytes())["confidence"] == pytest.approx(confidence, abs=1e-4)


def test_it_answers_with_its_own_code_wherever_python_looks_first(
    version: str, confidence: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.chdir(PROJECT)
    fetched = FetchedVersion.fetch(MODEL, version, tmp_path)
    assert ask(fetched.folder, SAMPLE.read_bytes())["confidence"] == pytest.approx(confidence, abs=1e-4)


def test_the_check_after_a_restore_finds_nothing_wrong(version: str) -> None:
    assert problems(MODEL) == {version: None}


def test_the_drift_job_gets_its_canary_and_reference(version: str, tmp_path: Path) -> None:
    packages = Packages(tmp_path, timeout_seconds=10)
    package = packages.find(MODEL, version)
    assert package is not None
    assert {path.name for path in package.iterdir()} == {"canary.jpg", "canary.json", "model.json", "reference_profile.json"}
    assert expected_answer(package)["confidence"] < 0.5  # half of what this tree's code answers
    assert packages.find(MODEL, version) == package
    assert packages.find(MODEL, "99") is None


def test_the_command_scores_it_with_its_own_code(
    version: str, confidence: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(register, "register_package", lambda package, name: RegisteredVersion(name, version, "its run"))
    monkeypatch.setattr("sys.argv", ["register.py", "register", "--name", MODEL, "--score", str(SAMPLE)])
    register.main()
    output, _, answer = capsys.readouterr().out.partition("\n")
    assert output.startswith(f"Registered {MODEL} version {version}")
    assert json.loads(answer)["confidence"] == pytest.approx(confidence, abs=1e-4)


def test_it_is_promoted_served_replayed_and_rolled_back_to(
    version: str, confidence: float, tmp_path: Path, retina: bytes, store: str
) -> None:
    promote(MODEL, version, "Production", judged=passed(MODEL, version))
    settings = RegistrySettings(enabled=True, timeout_seconds=280, cache_dir=tmp_path / "cache")
    assert resolve(MODEL, "Production", settings).source == "registry"

    port = free_port()
    env = environment(MLFLOW_TRACKING_URI=store, MODEL_CACHE_DIR=str(tmp_path / "cache"), REGISTRY_TIMEOUT_SECONDS="280")
    command = [sys.executable, str(PROJECT / "serve.py"), "--name", MODEL, "--port", str(port)]
    with started(command, f"http://127.0.0.1:{port}", "/ping", tmp_path / "served", env) as server:
        (answer,) = server.classify(retina)
        os.killpg(server.process.pid, signal.SIGTERM)
        server.process.wait(timeout=30)
    assert (answer["model_version"], answer["confidence"]) == (version, pytest.approx(confidence, abs=1e-4))
    (record,) = read_records(server.records)
    assert record["model_source"] == "registry"
    assert replay(Storage(str(server.records)), answer["prediction_id"], retina).differences == []

    client = MlflowClient()
    second = make_version(client, MODEL, client.create_experiment("next"))
    promote(MODEL, second, "Production", judged=passed(MODEL, second))
    rollback(MODEL, "the test goes back")
    champion = in_stage(MODEL, "Production")
    assert champion is not None
    assert champion.version == version
    assert resolve(MODEL, "Production", settings).version == version


def test_this_trees_changed_code_refuses_no_version_from_before(store: str, version: str, tmp_path: Path) -> None:
    """The other way round: a checkout in which somebody works."""
    checkout = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("model_code", "eye_disease", "deploy"):
        shutil.copytree(PROJECT / name, checkout / name, ignore=ignored)
    (checkout / "model_code" / "classifier.py").write_text("raise ImportError('half written')\n")
    env = environment(MLFLOW_TRACKING_URI=store, PYTHONPATH=str(checkout))
    done = python("-m", "deploy.check_versions", MODEL, env=env, cwd=checkout)
    sentence = f"{MODEL} version {version}: downloaded, its canary is answered as expected"
    assert sentence in done.stdout.splitlines(), (done.stdout, done.stderr)  # beside the version of a few bytes, which is none
