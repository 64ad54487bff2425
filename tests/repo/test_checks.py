"""What is checked before anything lands: linters, types, sizes, and the selection of `./run_tests.sh --fast`."""

import subprocess
import sys
import tomllib

import pytest
import yaml

from tests.support.selection import loads_tensorflow
from tests.support.servers import PROJECT, environment, python, run

HOOKS = {hook["id"]: hook for hook in yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]}
LARGEST = 20 * 2**20


def test_the_hooks_are_valid_and_what_the_tests_run() -> None:
    done = python("-m", "pre_commit", "validate-config", ".pre-commit-config.yaml", env=environment())
    assert done.returncode == 0, done.stdout
    script = (PROJECT / "run_tests.sh").read_text()
    declared = (PROJECT / "requirements" / "test.in").read_text().split()
    programs = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in HOOKS.values()}
    assert programs == {"ruff", "codespell", "mypy", "check-added-large-files"}
    assert [program for program in programs - {"check-added-large-files"} if program not in script] == []
    assert {"ruff", "codespell", "mypy", "pre-commit", "pre-commit-hooks"} <= set(declared)
    assert f"--maxkb={LARGEST // 1024}" in HOOKS["large-files"]["entry"]


def test_no_file_is_too_large_to_be_committed() -> None:
    files = [PROJECT / name for name in run("git", "ls-files", env=environment()).stdout.splitlines()]
    assert [file.name for file in files if file.is_file() and file.stat().st_size > LARGEST] == []


def test_types_are_checked_of_all_that_is_shipped_and_no_ignore_is_blank() -> None:
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert settings["strict"] is True
    assert set(settings["files"]) == {"eye_disease", "model_code", *(path.name for path in PROJECT.glob("*.py"))}
    assert not any("*" in override["module"] or override["module"] == "*" for override in settings["overrides"])
    sources = [path for folder in ("eye_disease", "model_code") for path in (PROJECT / folder).rglob("*.py")]
    lines = [(path.name, line) for path in sources for line in path.read_text().splitlines() if "type: ignore" in line]
    without_reason = [f"{name}: {line}" for name, line in lines if "type: ignore[" not in line or "] # " not in line]
    assert without_reason == []


@pytest.mark.parametrize(
    ("module", "loads"),
    [
        ("model_code.pyfunc_model", False),  # a function of it may, where the model asks for Keras
        ("eye_disease.cli.drift", False),
        ("eye_disease.training.run", True),
        ("tests.training.test_network", True),
        ("tests.verdict.test_verdict", False),
    ],
)
def test_who_loads_tensorflow_is_seen_in_the_source(module: str, loads: bool) -> None:
    assert loads_tensorflow(module) is loads


def test_without_a_server_a_process_or_tensorflow_most_tests_are_left() -> None:
    """With --fast an import of TensorFlow fails, so that what is collected does without it."""
    done = python("-m", "pytest", "--fast", "--collect-only", "-q", "-p", "no:cacheprovider", env=environment())
    assert done.returncode == 0, done.stdout[-3000:]
    tests = {line for line in done.stdout.splitlines() if "::" in line}
    files = {line.partition("::")[0] for line in tests}
    assert len(tests) > 2000
    assert {"tests/verdict/test_verdict.py", "tests/model_code/test_decode.py", "tests/records/test_ingest.py"} <= files
    assert not any(file.startswith(("tests/servers/", "tests/stack/", "tests/training/test_network")) for file in files)


def test_with_fast_tensorflow_cannot_be_imported() -> None:
    code = "import pytest, sys; sys.exit(pytest.main(['--fast', '-q', '--co', 'tests/verdict/test_limits.py']) or probe())"
    probe = "def probe():\n    try:\n        import tensorflow\n    except ImportError:\n        return 0\n    return 1\n"
    done = subprocess.run([sys.executable, "-c", probe + code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
