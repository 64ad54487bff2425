"""The gate as a whole: a real registry, served versions, real photos."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from eye_disease.registry.gate.gate import GateError, GateResult, validate
from eye_disease.registry.gate.serving_checks import agreement
from eye_disease.registry.gate.settings import GateSettings
from eye_disease.registry.gate.trial_server import TrialError, on_trial
from eye_disease.registry.mlflow_model import log_package
from eye_disease.registry.promotion import promote
from eye_disease.registry.versions import FetchedVersion
from tests.support.candidates import MIXED_UP, changed_package
from tests.support.photos import PACKAGE
from tests.support.servers import NAME, PROJECT, Served, environment

MODEL = "judged"
PER_CLASS = 10
SETTINGS = GateSettings(recompute_agreement=False, min_photos=4 * PER_CLASS, min_recall=0.5)
MISTAKEN, EQUAL = "2", "3"


@pytest.fixture(scope="module")
def versions(tracking: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    """The bundled model in Production, a version with two classes mixed up, and one that answers alike."""
    folder = tmp_path_factory.mktemp("gate")
    mlflow.set_tracking_uri(tracking.url)
    mlflow.set_experiment(NAME)
    mistaken = changed_package(folder / "mistaken", classes=MIXED_UP)
    equal = changed_package(folder / "equal", temperature=0.85)
    for package in (PACKAGE, mistaken, equal):
        with mlflow.start_run():
            mlflow.register_model(log_package(package).model_uri, MODEL)
    promote(MODEL, "1", "Production", judged=GateResult("1", True, (), "", None))
    yield MlflowClient()
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def photos(real_photos: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a class with ten real photos each, named as a clinic might, and one file that is no photo."""
    folder = tmp_path_factory.mktemp("photos")
    chosen = real_photos.groupby("label").sample(PER_CLASS, random_state=0)
    for i, row in enumerate(chosen.itertuples()):
        (folder / row.label).mkdir(exist_ok=True)
        shutil.copyfile(row.file, folder / row.label / f"Silva_Maria_{i}{row.file.suffix}")
    (folder / "normal" / "Silva_Maria_scan.jpg").write_bytes(b"no photo")
    return folder


def _evidence(run_id: str, path: str) -> str:
    return mlflow.artifacts.load_text(f"runs:/{run_id}/{path}")


@pytest.fixture
def command(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`register.py validate` of a version on the photos, in this process."""
    from eye_disease.cli import register

    few_photos = {"MIN_PHOTOS": "40", "MIN_RECALL": "0.5", "MAX_CALIBRATION_ERROR": "0.16"}  # 0.11 by chance, 95 % below 0.16
    for name, value in (few_photos | {"ENV_MANAGER": "local", "RECOMPUTE_AGREEMENT": "no"}).items():
        monkeypatch.setenv(f"GATE_{name}", value)
    monkeypatch.setenv("INFERENCE_LOG_DIR", str(photos.parent / "records"))

    def run(version: str) -> None:
        arguments = ["register.py", "validate", "--name", MODEL, "--version", version, "--data", str(photos)]
        monkeypatch.setattr("sys.argv", arguments)
        register.main()

    return run


def test_a_worse_version_is_refused_with_reasons_and_evidence(
    versions: MlflowClient, command: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command(MISTAKEN)
    assert ended.value.code == 1
    output = capsys.readouterr().out
    assert f"{MODEL} version {MISTAKEN}: REFUSED" in output
    assert "paired test against Production: p = " in output
    assert "loss of recall of cataract" in output
    assert "recall of cataract is 0" in output
    assert "refused: canary" not in output  # the package by itself is in order

    version = versions.get_model_version(MODEL, MISTAKEN)
    assert version.current_stage == "None"
    assert version.tags["gate"] == "refused"
    assert all(f"refused: {reason}" in output for reason in version.tags["gate_reasons"].split("; "))
    assert "Refused: " in version.description

    run = versions.get_run(version.tags["gate_evidence_run"])
    assert (run.info.status, run.data.tags["gate.production"]) == ("FINISHED", "1")
    assert run.data.metrics["candidate_recall_cataract"] < 0.2 < run.data.metrics["production_recall_cataract"]
    plots = {
        file.path for role in ("candidate", "production") for file in versions.list_artifacts(run.info.run_id, f"gate/{role}")
    }
    assert plots == {
        f"gate/{role}/{plot}.png"
        for role in ("candidate", "production")
        for plot in ("confusion", "reliability", "roc", "within_source")
    }
    changed = json.loads(_evidence(run.info.run_id, "gate/changed_predictions.json"))
    rows = pd.DataFrame(changed["data"], columns=changed["columns"])
    assert set(rows.loc[rows["change"] == "lost", "label"]) == {"cataract", "glaucoma"}
    assert rows["photo"].str.fullmatch("[0-9a-f]{16}").all()
    evidence = json.loads(_evidence(run.info.run_id, "gate/gate.json"))
    assert evidence["settings"]["max_recall_loss"] == 0.05
    assert [check["value"] for check in evidence["checks"] if check["name"] == "unreadable photos"] == [
        "1 of 41 photos (format_unsupported 1)"
    ]
    everything = version.description + "".join(map(str, (version.tags, evidence, changed, run.data)))
    assert "Silva" not in everything + _evidence(run.info.run_id, "model_card.md")


def test_a_version_as_good_as_production_passes(
    versions: MlflowClient,
    command: Callable[[str], None],
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command(EQUAL)
    output = capsys.readouterr().out
    assert f"{MODEL} version {EQUAL}: passed" in output
    assert "p = 1 (0 lost, 0 won)" in output
    assert "median latency, ms" in output
    assert versions.get_model_version(MODEL, EQUAL).tags["gate"] == "passed"
    assert versions.get_model_version(MODEL, EQUAL).current_stage == "None"
    assert not (photos.parent / "records").exists()  # checks are no traffic

    monkeypatch.setattr(
        "eye_disease.registry.gate.gate._judge", lambda *arguments: pytest.fail("labels are checked before any work is done")
    )
    (photos / "drusen").mkdir()
    shutil.copyfile(next((photos / "normal").glob("*_3*.webp")), photos / "drusen" / "1.webp")
    with (photos / "drusen" / "1.webp").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(SystemExit, match=r"validate: The labels \['drusen'\] are not among the model's classes"):
        command(EQUAL)


def test_what_cannot_be_judged_is_an_error(versions: MlflowClient, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=f"{MODEL} has no version 99"):
        validate(MODEL, "99", None, SETTINGS)
    with pytest.raises(GateError, match=r"not a file\. Expected a CSV"):
        validate(MODEL, EQUAL, tmp_path / "nothing", SETTINGS)
    with pytest.raises(GateError, match=r"not a file\. Expected a CSV"):
        validate(MODEL, EQUAL, None, replace(SETTINGS, data=tmp_path / "nothing"))


def test_a_first_version_is_judged_by_its_package(registry: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the promotion of the fixture, against a tracking server."""
    client = MlflowClient(registry["MLFLOW_TRACKING_URI"])
    version = client.get_model_version(NAME, "1")
    assert version.current_stage == "Production"
    assert version.tags["gate"] == "passed"
    run = client.get_run(version.tags["gate_evidence_run"])
    assert run.data.tags["gate.basis"].startswith("the figures kept in the package (")
    assert "model_card.md" in {file.path for file in client.list_artifacts(version.run_id)}
    assert "Whole card: `model_card.md` of run " + run.info.run_id in version.description


def _only_a_package(folder: Path) -> FetchedVersion:
    model = folder / "artifacts"
    model.mkdir(parents=True)
    (model / "package").symlink_to(PACKAGE)
    return FetchedVersion("m", "1", folder)


def test_a_folder_that_cannot_be_served_says_why(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: no_such_module\n    python_version: 3.11.7\n"
    )
    with on_trial(tmp_path, "local", 120) as trial, pytest.raises(TrialError, match="No module named 'no_such_module'"):
        trial.wait()


def test_a_gate_that_is_killed_leaves_no_server_behind(tmp_path: Path) -> None:
    server = tmp_path / "server"
    server.write_text("#!/bin/sh\nsleep 600 & echo $! >$PIDS; wait\n")
    server.chmod(0o755)
    script = (
        "import sys, time; from pathlib import Path; from eye_disease.registry.gate.trial_server import on_trial; "
        f"sys.executable = {str(server)!r}\nwith on_trial(Path('.'), 'local', 60): time.sleep(600)"
    )
    pids = tmp_path / "pids"
    gate = subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT, env=environment(PIDS=str(pids)))
    _until(lambda: pids.is_file() and bool(pids.read_text().strip()))
    asleep = Path("/proc") / pids.read_text().strip()
    assert asleep.is_dir()
    gate.kill()
    gate.wait()
    _until(lambda: not asleep.is_dir())


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_agreement_with_keras_is_recomputed_from_the_files(tmp_path: Path) -> None:
    version = _only_a_package(tmp_path)
    check = agreement(version, recompute=True)
    assert check.passed
    assert check.value.endswith("apart, compared now")
    assert agreement(version, recompute=False).value.endswith("apart, as recorded when it was converted")


def test_another_litert_file_than_the_compared_one_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "artifacts" / "package"
    shutil.copytree(PACKAGE, package)
    with (package / "classifier.tflite").open("ab") as file:
        file.write(b"\0")
    check = agreement(FetchedVersion("m", "1", tmp_path), recompute=True)
    assert "is not the one that was compared" in check.reason
