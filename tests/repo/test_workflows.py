"""The workflows of .github: valid by GitHub's schema, and calling what is there."""

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from tests.support.servers import NAME, PROJECT, environment

FOLDER = PROJECT / ".github" / "workflows"
NAMES = sorted(path.name for path in FOLDER.glob("*.yml"))


def _workflow(name: str) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true
    return {"on" if key is True else key: value for key, value in yaml.safe_load((FOLDER / name).read_text()).items()}


def _steps(name: str) -> list[dict[str, Any]]:
    return [step for job in _workflow(name)["jobs"].values() for step in job.get("steps", [])]


def _checked(*paths: str) -> subprocess.CompletedProcess[str]:
    """GitHub's schema, as the package check-jsonschema brings it."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", *paths]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_they_are_valid_and_the_schema_notices_what_is_not(tmp_path: Any) -> None:
    done = _checked(*(str(FOLDER / name) for name in NAMES))
    assert done.returncode == 0, done.stdout + done.stderr
    broken = tmp_path / "broken.yml"
    broken.write_text((FOLDER / "tests.yml").read_text().replace("runs-on:", "runs_on:"))
    assert _checked(str(broken)).returncode == 1


def test_the_tests_are_run_by_the_documented_command() -> None:
    assert NAMES == ["register.yml", "tests.yml"]
    assert "./run_tests.sh" in [step.get("run") for step in _steps("tests.yml")]
    assert {"push", "pull_request", "workflow_call"} <= set(_workflow("tests.yml")["on"])


@pytest.mark.parametrize("name", NAMES)
def test_they_may_only_read_and_hold_no_secrets(name: str) -> None:
    workflow = _workflow(name)
    assert workflow["permissions"] == {"contents": "read"}
    assert all(job.get("timeout-minutes") or "uses" in job for job in workflow["jobs"].values())
    text = (FOLDER / name).read_text()
    for line in re.findall(r"^.*(?:PASSWORD|TOKEN|TRACKING_URI):.*$", text, flags=re.MULTILINE):
        assert "${{ secrets." in line
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]) for step in _steps(name) if "uses" in step)
    # What comes from outside reaches a shell as a variable, not as part of its program.
    assert not any("${{" in step.get("run", "") for step in _steps(name))


def test_a_tag_registers_only_after_the_tests_and_puts_nothing_to_production() -> None:
    workflow = _workflow("register.yml")
    assert workflow["on"] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}}
    assert workflow["jobs"]["tests"] == {"uses": "./.github/workflows/tests.yml"}
    assert workflow["jobs"]["register"]["needs"] == "tests"
    commands = "\n".join(step.get("run", "") for step in _steps("register.yml"))
    assert "python register.py validate" in commands
    assert "--stage Staging" in commands
    assert "Production" not in commands


def test_the_tag_is_on_the_version(registry: dict[str, str], tmp_path: Any) -> None:
    """What the workflow's step runs, against a real registry."""
    output = tmp_path / "output"
    done = subprocess.run(
        [str(PROJECT / "deploy" / "register_tag.sh"), "v1.2.3"],
        env=registry | {"GITHUB_OUTPUT": str(output)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    version = re.fullmatch(r"version=(\d+)\n", output.read_text())
    assert version is not None
    client = MlflowClient(registry["MLFLOW_TRACKING_URI"])
    assert client.get_model_version(NAME, version[1]).tags["git_tag"] == "v1.2.3"


def test_without_a_tracking_server_it_says_so() -> None:
    done = subprocess.run(
        [str(PROJECT / "deploy" / "register_tag.sh"), "v1.2.3"], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "MLFLOW_TRACKING_URI: the tracking server" in done.stderr
