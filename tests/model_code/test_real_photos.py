"""The bundled model on real validation photos: what must not depend on the file, and what must not be sent back."""

import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from eye_disease.training.degrade import DEGRADATIONS, HAZE, RUINING
from eye_disease.training.reencode import encoded
from model_code.classifier import Classifier
from model_code.decision import HAZY, HEALTHY
from model_code.preprocessing import Recipe, disc_square
from model_code.settings import ServingSettings
from tests.support.photos import PACKAGE

SAVED_AS = ((300, "JPEG", 75), (512, "JPEG", 60), (700, "WEBP", 80), (1500, "PNG", 100), (2200, "JPEG", 90), (400, "TIFF", 100))
"""Longer side in pixels, format and quality"""


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(PACKAGE, "7", ServingSettings.from_env({}))


@pytest.fixture(scope="module")
def some_photos(real_photos: pd.DataFrame) -> pd.DataFrame:
    """Up to nine photos of every class of every source."""
    return real_photos.groupby(["source", "label"]).sample(9, random_state=1, replace=True).drop_duplicates("path")


def _answers(classifier: Classifier, files: Iterable[bytes]) -> pd.DataFrame:
    with ThreadPoolExecutor(2) as executor:
        return pd.DataFrame(executor.map(lambda data: classifier.classify(data).answer, files))


def _squares(rows: pd.DataFrame) -> Iterable[np.ndarray]:
    return (np.asarray(disc_square(Image.open(file).convert("RGB"), Recipe(512))) for file in rows["file"])


def _degraded(classifier: Classifier, rows: pd.DataFrame, way: str) -> pd.DataFrame:
    rng = np.random.default_rng(21)
    ruined = (Image.fromarray(DEGRADATIONS[way](square, rng)) for square in _squares(rows))
    return _answers(classifier, (encoded(photo, 512, "JPEG") for photo in ruined))


def test_the_way_a_photo_is_saved_changes_neither_class_nor_decision(classifier: Classifier, some_photos: pd.DataFrame) -> None:
    plain = _answers(classifier, (file.read_bytes() for file in some_photos["file"]))
    changed: dict[str, list[bool]] = {"predicted_class": [], "decision": []}
    for way in SAVED_AS:
        files = (encoded(Image.open(io.BytesIO(file.read_bytes())).convert("RGB"), *way) for file in some_photos["file"])
        again = _answers(classifier, files)
        for name, changes in changed.items():
            changes += (again[name] != plain[name]).tolist()
    shares = {name: float(np.mean(changes)) for name, changes in changed.items()}
    assert shares["predicted_class"] <= 0.06, shares
    assert shares["decision"] <= 0.08, shares


@pytest.mark.parametrize(("label", "most"), [(HAZY, 0.08), (HEALTHY, 0.05)])
def test_few_photos_are_sent_back(classifier: Classifier, real_photos: pd.DataFrame, label: str, most: float) -> None:
    rows = real_photos[real_photos["label"] == label]
    answers = _answers(classifier, (file.read_bytes() for file in rows["file"].iloc[:150]))
    assert (answers["decision"] == "retake").mean() <= most


@pytest.mark.parametrize("way", RUINING)
def test_a_ruined_photo_is_sent_back_or_shown_to_a_specialist(
    classifier: Classifier, some_photos: pd.DataFrame, way: str
) -> None:
    answers = _degraded(classifier, some_photos.iloc[::3], way)
    assert (answers["decision"] != "report").mean() >= 0.9


def test_haze_is_no_reason_to_take_another_photo(classifier: Classifier, real_photos: pd.DataFrame) -> None:
    cataracts = real_photos[real_photos["label"] == HAZY].iloc[:30]
    answers = _degraded(classifier, cataracts, HAZE)
    assert (answers["decision"] == "retake").mean() <= 0.1
    assert (answers["predicted_class"] == HAZY).mean() >= 0.8
