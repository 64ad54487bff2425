"""`mlflow run .` in the tests' environment (benchmarks/environments.py makes one); the files as conda and MLflow read them."""

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.projects.utils import load_project

from eye_disease.cli import drift as drift_job
from eye_disease.cli import register, retrain, serve, train
from tests.support.servers import NAME, PROJECT, environment, free_port, python, read_records, run, started


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A client whose tracking store is a sqlite file; the project must work without any server."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder}/mlflow.db"
    # Without a server, artifacts go below the project's folder unless the experiment says otherwise.
    MlflowClient(uri).create_experiment("eye-project", str(folder / "artifacts"))
    return environment(
        MLFLOW_TRACKING_URI=uri,
        MODEL_CACHE_DIR=str(folder / "cache"),
        MLFLOW_ENV_ROOT=str(folder / "envs"),
        MLFLOW_EXPERIMENT_NAME="eye-project",
    )


def _mlflow_run(*arguments: str, env: dict[str, str], cwd: Path) -> str:
    done = run(sys.executable, "-m", "mlflow", "run", str(PROJECT), *arguments, env=env, cwd=cwd, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_main_registers_promotes_and_scores(store: dict[str, str], tmp_path: Path) -> None:
    said = _mlflow_run("--env-manager", "local", env=store, cwd=tmp_path)
    assert f"Registered {NAME} version 1" in said
    assert f"{NAME} version 1: None -> Staging" in said
    assert '"model_version": "1"' in said
    assert '"error": null' in said
    header, version = python("register.py", "list", env=store, cwd=PROJECT).stdout.splitlines()
    assert header.split()[:2] == ["version", "stage"]
    assert version.split()[:3] == ["1", "Staging", "@staging"]


def test_a_missing_parameter_is_named(store: dict[str, str], tmp_path: Path) -> None:
    done = run(
        *(sys.executable, "-m", "mlflow", "run", str(PROJECT), "-e", "promote", "--env-manager", "local"),
        env=store,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "version" in done.stderr


def test_serve_serves_the_version_in_a_stage(store: dict[str, str], tmp_path: Path, retina: bytes) -> None:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "run", str(PROJECT), "-e", "serve", "--env-manager", "local"]
    command += ["-P", "stage=Staging", "-P", f"port={port}"]
    with started(command, f"http://127.0.0.1:{port}", "/ping", tmp_path, store) as server:
        (answer,) = server.classify(retina)
    assert (answer["error"], answer["model_version"]) == (None, "1")
    assert [record["model_source"] for record in read_records(server.records)] == ["registry"]


PROGRAMS: dict[str, Callable[[], None]] = {
    "register.py": register.main,
    "drift_job.py": drift_job.main,
    "serve.py": serve.main,
    "train.py": train.main,
    "retrain.py": retrain.main,
}


@pytest.mark.parametrize("entry", yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"])
def test_every_entry_point_is_understood_by_its_program(entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = load_project(str(PROJECT)).get_entry_point(entry)
    given = {name: "1" for name, parameter in declared.parameters.items() if parameter.default is None or name == "data"}
    python, program, *arguments = shlex.split(declared.compute_command(given, None))
    parse = argparse.ArgumentParser.parse_args

    def only_parse(parser: argparse.ArgumentParser, *given: list[str]) -> None:
        parse(parser, *given)
        sys.exit("understood")

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    monkeypatch.setattr("sys.argv", [program, *arguments])
    with pytest.raises(SystemExit, match="understood"):
        PROGRAMS[program]()
    assert python == "python"


def test_conda_yaml_is_an_environment_of_the_full_set() -> None:
    environment_file = yaml.safe_load((PROJECT / "conda.yaml").read_text())
    assert environment_file["dependencies"][0] == "python=3.11.7"
    (pip,) = [one["pip"] for one in environment_file["dependencies"] if isinstance(one, dict)]
    assert pip == ["-r requirements-train.txt"]
