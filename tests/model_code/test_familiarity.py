import io

import numpy as np
import pytest
from PIL import Image

from eye_disease.training.degrade import DEGRADATIONS, RUINING
from model_code.classifier import Classifier
from model_code.decision import HAZY
from model_code.familiarity import is_gradable, is_unfamiliar, ood_score, quality_margin, source_distance
from model_code.package import Statistics
from model_code.settings import ServingSettings
from tests.support.photos import PACKAGE, encode

TWO_SOURCES = Statistics(
    source_means=np.array([[0.0, 0.0], [10.0, 0.0]]),
    source_precisions=np.array([np.eye(2), np.diag([0.25, 1.0])]),
    ood_limit=np.asarray(4.0),
    familiar_limit=np.asarray(0.5),
    quality_weights=np.array([1.0, -2.0, 0.5]),
)
"""The second source is twice as wide along the first axis."""


@pytest.mark.parametrize(
    ("style", "distance"), [((0, 0), 0), ((10, 0), 0), ((0, 4), 4), ((3, 4), 5), ((12, 0), 1), ((16, 4), 5), ((6, 0), 2)]
)
def test_the_distance_is_that_to_the_nearest_source(style: tuple[float, ...], distance: float) -> None:
    assert source_distance(np.array([style], float), TWO_SOURCES)[0] == pytest.approx(distance)
    assert ood_score(np.float32(style), TWO_SOURCES) == pytest.approx(distance / 4)


@pytest.mark.parametrize(("score", "unfamiliar"), [(0.0, False), (0.5, False), (0.51, True), (2.0, True), (None, None)])
def test_a_camera_is_unfamiliar_beyond_its_limit(score: float | None, unfamiliar: bool | None) -> None:
    assert is_unfamiliar(score, TWO_SOURCES) is unfamiliar


@pytest.mark.parametrize(("style", "gradable"), [((0, 0), False), ((0, 1), True), ((1.5, 1), True), ((2, 1), False)])
def test_a_photo_is_gradable_up_to_its_limit(style: tuple[float, ...], gradable: bool) -> None:
    assert is_gradable(np.float32(style), TWO_SOURCES) is gradable


def test_the_margin_is_the_weighted_sum_and_the_offset() -> None:
    assert quality_margin(np.array([[2.0, 1.0]]), np.array([1.0, -2.0, 0.5])) == pytest.approx([0.5])


def test_a_model_without_fitted_statistics_says_nothing() -> None:
    style = np.zeros(2, np.float32)
    assert ood_score(style, Statistics()) is None
    assert is_unfamiliar(0.5, Statistics()) is None
    assert is_gradable(style, Statistics()) is None


@pytest.mark.parametrize("way", RUINING)
def test_a_ruined_photo_must_be_retaken(way: str, retina: bytes) -> None:
    """Or be shown to a specialist, where it may be the haze of a cataract."""
    classifier = Classifier(PACKAGE, "1", ServingSettings.from_env({}))
    photo = np.asarray(Image.open(io.BytesIO(retina)).convert("RGB").resize((400, 400)))
    rng = np.random.default_rng(5)
    ruined = [classifier.classify(encode(Image.fromarray(DEGRADATIONS[way](photo, rng)), "PNG")).answer for _ in range(5)]
    hazy = [answer["decision"] == "review" and answer["predicted_class"] == HAZY for answer in ruined]
    noticed = [is_hazy or answer["decision"] == "retake" for is_hazy, answer in zip(hazy, ruined, strict=True)]
    assert sum(noticed) >= 4


def test_a_healthy_eye_by_a_camera_never_seen_is_not_reported(retina: bytes) -> None:
    answer = Classifier(PACKAGE, "1", ServingSettings.from_env({})).classify(retina).answer
    assert answer["unfamiliar_camera"] is True
    assert answer["decision"] in {"review", "retake"}
