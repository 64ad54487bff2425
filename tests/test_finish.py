"""`train.py package`: a trained network and labelled photos become a package that registers and answers."""

import json
from pathlib import Path

import pandas as pd
import pytest

from model_code.canary import canary_photo, differences, expected_answer
from model_code.classifier import Classifier
from model_code.package import ModelFacts
from model_code.settings import ServingSettings
from tests.photos import PACKAGE, encode, fundus
from tests.servers import environment, python

CLASSES = ["cataract", "diabetic_retinopathy", "glaucoma", "normal"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with made-up photos and their manifest: 8 to train and 4 to validate a class."""
    folder = tmp_path_factory.mktemp("photos")
    rows = []
    for number in range(48):
        name = f"{number}.jpg"
        (folder / name).write_bytes(encode(fundus(seed=number), "JPEG"))
        split = "val" if number % 12 >= 8 else "train"
        rows.append({"path": name, "label": CLASSES[number // 12], "source": f"camera-{number % 2}", "split": split})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


def _package(photos: Path, output: Path, classes: list[str]) -> tuple[int, str]:
    options = ["--model", str(PACKAGE / "classifier.keras"), "--manifest", str(photos / "manifest.csv")]
    options += ["--photos", str(photos), "--classes", ",".join(classes), "--output", str(output)]
    done = python("train.py", "package", *options, env=environment(TF_CPP_MIN_LOG_LEVEL="3"))
    return done.returncode, done.stdout + done.stderr


def test_a_package_is_calibrated_limited_and_answers(photos: Path, tmp_path: Path) -> None:
    status, said = _package(photos, tmp_path, CLASSES)
    assert status == 0, said
    facts = ModelFacts.load(tmp_path)
    assert facts.temperature != 1
    assert set(facts.quality_limits or {}) == {"brightness", "contrast", "sharpness", "field_of_view_share"}
    figures = facts.provenance["validation"]
    assert figures["photos"] == 16
    assert set(figures["recall"]) == set(CLASSES)
    assert set(figures["accuracy_by_source"]) == {"camera-0", "camera-1"}
    assert figures["calibration_error"] <= figures["calibration_error_before"] + 0.05
    assert f"validation accuracy {figures['accuracy']:.3f} on 16 photos" in said

    answer = Classifier(tmp_path, "x", ServingSettings.from_env({})).classify(canary_photo(tmp_path)).answer
    assert differences(answer, expected_answer(tmp_path)) == []
    assert answer["ood_score"] > 0
    assert json.loads((tmp_path / "model.json").read_text())["runtime"] == "litert"
