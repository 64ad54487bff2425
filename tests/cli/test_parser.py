"""Command lines that explain themselves."""

import argparse
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from eye_disease.cli.main import COMMANDS
from eye_disease.cli.parser import Parser
from tests.support.servers import PROJECT

MODULES = sorted({module for module, _ in COMMANDS.values()} - {"train", "retrain"})  # those import TensorFlow
SAYS_NOTHING = (None, "", False)


def _all(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    below = [action.choices.values() for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [parser, *(nested for choices in below for own in choices for nested in _all(own))]


@pytest.mark.parametrize("module", MODULES)
def test_every_help_says_defaults_and_shows_an_example_that_is_understood(module: str) -> None:
    top: Parser = import_module(f"eye_disease.cli.{module}").parser()
    for parser in _all(top):
        shown = "".join(parser.format_help().split())  # long words are broken
        for action in parser._actions:
            assert action.help or isinstance(action, argparse._SubParsersAction), (parser.prog, action.dest)
            if action.option_strings and action.default not in (*SAYS_NOTHING, argparse.SUPPRESS):
                assert f"(default:{action.default})" in shown, (parser.prog, action.dest)
        match = re.search(r"example:\n  (.*)", parser.format_help())
        assert match is not None, parser.prog
        top.parse_args(shlex.split(match[1].removeprefix(top.prog)))


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        (["register.py", "lst"], "list"),
        (["register.py", "promote", "--vresion", "2", "--stage", "Staging"], "--version"),
        (["register.py", "promote", "--version", "2", "--stage", "production"], "Production"),
        (["register.py", "list", "--nmae", "x"], "--name"),
        (["drift_job.py", "feedbak"], "feedback"),
        (["drift_job.py", "run", "--evry", "15m"], "--every"),
        (["serve.py", "--stage", "Prodction"], "Production"),
        (["-m", "eye_disease", "drfit"], "drift"),
    ],
)
def test_an_unknown_word_gets_a_suggestion(
    command: list[str], meant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = {"register.py": "register", "drift_job.py": "drift", "serve.py": "serve"}.get(command[0], "main")
    words = command[2:] if module == "main" else command[1:]
    monkeypatch.setattr(sys, "argv", [command[0], *words])
    with pytest.raises(SystemExit) as end:
        import_module(f"eye_disease.cli.{module}").main()
    assert end.value.code == 2
    assert f"Did you mean {meant}?" in capsys.readouterr().err


def test_what_is_like_nothing_gets_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Parser(prog="x", example="").parse_args(["--zzz"])
    assert "Did you mean" not in capsys.readouterr().err


def test_verbose_says_what_is_used(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5001")
    monkeypatch.setenv("INFERENCE_LOG_DIR", "s3://user:password@bucket/logs")
    monkeypatch.delenv("MONITORING_DIR", raising=False)
    arguments = Parser(prog="x", example="").parse_args(["-v"])
    text = capsys.readouterr().err
    assert "tracking server   http://127.0.0.1:5001  (MLFLOW_TRACKING_URI, from the environment)" in text
    assert "records           s3://bucket/logs  (INFERENCE_LOG_DIR, from the environment)" in text
    assert re.search(r"monitoring state  /.*monitoring_state  \(default; MONITORING_DIR is not set\)", text)
    assert not hasattr(arguments, "verbose")


def test_a_damaged_settings_file_ends_a_command_in_one_sentence(tmp_path: Path) -> None:
    file = f"{tmp_path}/settings"
    Path(file).write_text("PATH=/tmp\n")
    command = [sys.executable, "proxy.py", "--help"]
    done = subprocess.run(command, cwd=PROJECT, env={"SETTINGS_FILE": file}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Line 1 of {file}: expected NAME=value")
    assert done.stderr.count("\n") == 1
