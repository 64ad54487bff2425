"""Versions that differ from the bundled model in a known way, without training anything."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from model_code.canary import canary_photo, write_expected_answer
from model_code.classifier import Classifier
from model_code.package import ModelFacts
from model_code.settings import ServingSettings
from tests.support.photos import PACKAGE

CLASSES = ("cataract", "diabetic_retinopathy", "glaucoma", "normal")
MIXED_UP = ("glaucoma", "diabetic_retinopathy", "cataract", "normal")
"""The network's outputs under each other's names: a mistake that no check of the package itself can see."""


def changed_package(folder: Path, **facts: Any) -> Path:
    """A copy of the bundled package with other facts, whole in itself: its canary has the answer it gives."""
    package = Path(shutil.copytree(PACKAGE, folder / "package"))
    replace(ModelFacts.load(package), **facts).save(package)
    answer = Classifier(package, "unregistered", ServingSettings.from_env({})).classify(canary_photo(package)).answer
    write_expected_answer(package, answer)
    return package
