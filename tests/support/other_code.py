"""A version whose own code answers otherwise than this tree's, as one from another release does."""

import shutil
from pathlib import Path

import pytest

from eye_disease.common.model_process import ask
from eye_disease.registry import mlflow_model
from eye_disease.registry.mlflow_model import save_package
from eye_disease.registry.register import RegisteredVersion, register_package
from model_code.canary import canary_photo, write_expected_answer
from tests.support.photos import PACKAGE

OTHERWISE = """

_classify = Classifier.classify


def _otherwise(self, *arguments, **named):
    answered = _classify(self, *arguments, **named)
    if answered.answer["confidence"] is not None:
        answered.answer["confidence"] = answered.answer["confidence"] / 2
    return answered


Classifier.classify = _otherwise
"""
"""What is added to `classifier.py`: the confidence is half of what this tree answers."""


def register_other_code(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> RegisteredVersion:
    """Register the bundled package with code that answers otherwise; its canary has the answer of that code."""
    code = Path(shutil.copytree(mlflow_model.CODE, folder / "model_code", ignore=shutil.ignore_patterns("__pycache__")))
    with (code / "classifier.py").open("a") as file:
        file.write(OTHERWISE)
    package = Path(shutil.copytree(PACKAGE, folder / "package"))
    with monkeypatch.context() as patch:
        patch.setattr(mlflow_model, "CODE", code)
        write_expected_answer(package, _answer_of(package, code, folder))
        return register_package(package, name)


def _answer_of(package: Path, code: Path, folder: Path) -> dict[str, object]:
    """The canary's answer by that code: first saved with a check that compares nothing, since its answer is not known yet."""
    check = code / "canary.py"
    whole = check.read_text()
    check.write_text(f"{whole}\n\ndef differences(answer, expected):\n    return []\n")
    save_package(package, folder / "first", "unregistered")
    check.write_text(whole)
    return ask(folder / "first", canary_photo(package))
