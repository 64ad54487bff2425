"""The virtual environment of `start_mlflow.sh` and `run_tests.sh`: whatever was there, afterwards one that works is there."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import PROJECT, environment

ANEW = ".venv cannot be used: {}. It is made anew."
BASE_PYTHON = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the scripts and files that they read, a quick Python, and a uv that installs nothing."""
    folder = tmp_path / "the project"
    (folder / "requirements").mkdir(parents=True)
    shutil.copytree(PROJECT / "scripts", folder / "scripts")
    shutil.copy2(PROJECT / "start_mlflow.sh", folder)
    for name in ("requirements.txt", "requirements/base.in", "constraints.txt", "pyproject.toml"):
        (folder / name).write_text("")
    tools = tmp_path / "tools"
    tools.mkdir()
    _script(
        tools / "quick-python",
        f'[ "$1 $2" = "-m venv" ] && exec {BASE_PYTHON} -m venv --without-pip "$3"; exec {BASE_PYTHON} "$@"',
    )
    _script(tools / "uv", 'echo "uv $*"; env | grep -E "^(PIP_USER|PYTHONPATH)=" || true')
    return folder


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def _set_up(project: Path, **env: str) -> subprocess.CompletedProcess[str]:
    tools = project.parent / "tools"
    quick = {"PYTHON": str(tools / "quick-python"), "PATH": f"{tools}:/usr/bin:/bin"} | env
    command = "set -u; . scripts/environment.sh; set_up_environment requirements.txt; echo ready: $(command -v python)"
    return subprocess.run(
        ["bash", "-c", command], cwd=project, env=environment() | quick, capture_output=True, text=True, check=False
    )


def _ready(project: Path, *said: str, **env: str) -> str:
    done = _set_up(project, **env)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stderr == ""
    assert f"ready: {project}/.venv/bin/python" in done.stdout
    for sentence in said:
        assert sentence in done.stdout
    python = project / ".venv" / "bin" / "python"
    prefix = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True)
    assert Path(prefix.stdout.strip()).samefile(project / ".venv")
    again = _set_up(project, **env)
    assert (again.stdout, again.stderr) == (f"ready: {project}/.venv/bin/python\n", "")
    return done.stdout


def test_one_is_made_and_used_again(project: Path) -> None:
    said = _ready(project, "Making the virtual environment", "Installing the packages of requirements.txt")
    assert "uv pip install --python" in said
    assert "anew" not in said


def test_pip_settings_that_lead_elsewhere_are_not_followed(project: Path) -> None:
    said = _ready(project, PIP_USER="1", PYTHONPATH="/somewhere", PIP_TARGET="/somewhere", PYTHONHOME="/somewhere")
    assert "PIP_USER=" not in said
    assert "PYTHONPATH=" not in said


def test_a_python_that_has_gone(project: Path) -> None:
    _ready(project)
    python = project / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    _ready(project, ANEW.format("it has no Python, or one that has gone"))


def test_a_python_that_does_not_run(project: Path) -> None:
    _ready(project)
    python = project / ".venv" / "bin" / "python"
    python.unlink()
    _script(python, "exit 127")
    _ready(project, ANEW.format("its Python does not run, or is not 3.11, 3.12 or 3.13"))


@pytest.mark.parametrize("shebang", ["#!{}/bin/python\n", "#!/bin/sh\n'''exec' \"{}/bin/python\" \"$0\" \"$@\"\n' '''\n"])
def test_a_renamed_clone(project: Path, shebang: str) -> None:
    _ready(project)
    command = project / ".venv" / "bin" / "uvicorn"
    command.write_text(shebang.format(project / ".venv"))
    _ready(project)  # nothing is wrong yet
    renamed = project.rename(project.with_name("renamed"))
    _ready(renamed, ANEW.format("it was made in another folder, or this one was renamed"))


RELOCATABLE = """#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")"/'python' "$0" "$@"
"""


@pytest.mark.parametrize("shebang", ["#!/usr/bin/env python3\n", RELOCATABLE])
def test_one_that_may_be_moved_stays(project: Path, shebang: str) -> None:
    """As `uv venv --relocatable` makes it."""
    _ready(project)
    (project / ".venv" / "bin" / "uvicorn").write_text(shebang)
    renamed = project.rename(project.with_name("renamed"))
    assert "anew" not in _ready(renamed)


def test_a_python_of_another_release_than_it_was_made_with(project: Path) -> None:
    _ready(project)
    (library,) = (project / ".venv" / "lib").iterdir()
    library.rename(library.with_name("python3.9"))
    _ready(project, ANEW.format("its Python is another than it was made with"))


@pytest.mark.parametrize("left", [[], ["bin"], ["bin", "lib", "pyvenv.cfg"]])
def test_a_half_made_one(project: Path, left: list[str]) -> None:
    (project / ".venv").mkdir()
    for name in left:
        (project / ".venv" / name).mkdir()
    _ready(project, ANEW.format("it has no Python, or one that has gone"))


def test_a_link_to_nowhere_is_replaced_and_what_it_named_is_left_alone(project: Path) -> None:
    elsewhere = project.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("")
    (project / ".venv").symlink_to(elsewhere)
    _ready(project, "It is made anew.")
    assert (elsewhere / "kept").is_file()


def test_what_is_no_environment_is_never_removed(project: Path) -> None:
    (project / ".venv").mkdir()
    (project / ".venv" / "thesis.docx").write_text("years of work")
    done = _set_up(project)
    assert done.returncode == 1
    assert ".venv is no virtual environment, so it is left alone. Move it away" in done.stderr
    assert (project / ".venv" / "thesis.docx").is_file()


def test_without_uv_and_pip_the_environments_own_pip_is_made(project: Path) -> None:
    """As in an environment that `uv venv` has made, where uv is not on the PATH."""
    (project.parent / "tools" / "uv").unlink()
    done = _set_up(project, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(project))
    assert "No matching distribution found for uv<1" in done.stderr  # it is pip that looks for uv
    assert (project / ".venv" / "bin" / "pip3").is_file()


def test_both_ports_the_same_are_named_before_anything_is_made(project: Path) -> None:
    done = subprocess.run(
        ["./start_mlflow.sh"],
        cwd=project,
        env=environment(MLFLOW_PORT="5001", SERVE_PORT="5001"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "MLFLOW_PORT and SERVE_PORT are both 5001. Choose two ports" in done.stderr
    assert not (project / ".venv").exists()


@pytest.mark.parametrize("shell", [["sh"], ["bash"], ["bash", "--posix"], []])
def test_it_starts_from_any_shell_through_a_link_from_anywhere(project: Path, tmp_path: Path, shell: list[str]) -> None:
    """As far as the check of the ports, which stands behind all of that."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "eye").symlink_to("../link")
    (tmp_path / "link").symlink_to(project / "start_mlflow.sh")
    env = environment(MLFLOW_PORT="5001", SERVE_PORT="5001", CDPATH=str(PROJECT.parent))
    done = subprocess.run(
        [*shell, str(tmp_path / "bin" / "eye")], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: MLFLOW_PORT and SERVE_PORT are both 5001.")


def test_other_servers_in_the_environment_are_ignored_and_named() -> None:
    foreign = {
        "MLFLOW_TRACKING_URI": "http://elsewhere",
        "MLFLOW_REGISTRY_URI": "http://elsewhere",
        "MLFLOW_TRACKING_TOKEN": "a-secret",
        "MLFLOW_TRACKING_USERNAME": "alice",
        "MLFLOW_TRACKING_PASSWORD": "a-secret",
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://elsewhere",
        "MLFLOW_REGISTRY_STORE_URI": "sqlite:///elsewhere",
        "MLFLOW_EXPERIMENT_ID": "7",
        "MLFLOW_RUN_ID": "7",
    }
    own = {"MLFLOW_PORT": "5001", "MLFLOW_EXPERIMENT_NAME": "mine", "no_proxy": "example.org"}
    command = "set -u; . scripts/environment.sh; . scripts/processes.sh; ignore_other_servers; env"
    done = subprocess.run(
        ["bash", "-c", command], cwd=PROJECT, env=environment(**foreign, **own), capture_output=True, text=True, check=True
    )
    said, *left = done.stdout.splitlines()
    assert said.startswith("Ignored, since this start uses the tracking server that it starts itself: ")
    assert set(said.rpartition(": ")[2].split()) == set(foreign)
    assert "a-secret" not in done.stdout
    held = dict(line.split("=", 1) for line in left if "=" in line)
    assert not held.keys() & foreign.keys()
    assert {name: held[name] for name in ("MLFLOW_PORT", "MLFLOW_EXPERIMENT_NAME")} == {k: own[k] for k in list(own)[:2]}
    assert held["no_proxy"] == held["NO_PROXY"] == "example.org,127.0.0.1,localhost"


def test_the_tracking_server_of_this_start_is_no_other_server() -> None:
    env = environment(MLFLOW_PORT="5001", MLFLOW_TRACKING_URI="http://127.0.0.1:5001")
    command = "set -u; . scripts/environment.sh; . scripts/processes.sh; ignore_other_servers"
    done = subprocess.run(["bash", "-c", command], cwd=PROJECT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == ""
