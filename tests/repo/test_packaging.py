"""`pip install .` gives a working installation with its command."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support.servers import NAME, PROJECT, environment

PACKAGES = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]


def test_every_package_is_installed() -> None:
    folders = {path.parent for top in ("model_code", "eye_disease") for path in (PROJECT / top).rglob("__init__.py")}
    assert {".".join(folder.relative_to(PROJECT).parts) for folder in folders} == {
        package for package in PACKAGES if not package.startswith("eye_disease.bundled")
    }


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds this project and what it declares, and nothing else."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run(["uv", "venv", "--quiet", "--python", "3.11", venv], check=True)
    install = ["uv", "pip", "install", "--quiet", "--python", venv / "bin" / "python", "--constraints", "constraints.txt", "."]
    subprocess.run(install, cwd=PROJECT, check=True)
    return venv / "bin"


def test_the_command_registers_and_lists_the_bundled_model(installed: Path, tmp_path: Path) -> None:
    env = environment(MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db") | {"PATH": f"{installed}{os.pathsep}/usr/bin:/bin"}
    env.pop("PYTHONPATH", None)

    def command(*words: str) -> str:
        done = subprocess.run(["eye-disease", *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert f"Registered {NAME} version 1" in command("register", "--stage", "Staging")
    assert "Staging" in command("list")
    assert "No records" in command("drift")


def test_an_unknown_command_names_the_known_ones(installed: Path) -> None:
    done = subprocess.run([installed / "eye-disease", "registre"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "register, promote, validate" in done.stderr
