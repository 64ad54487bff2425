import numpy as np
import pytest
from scipy.special import expit, softmax

from eye_disease.evaluation.shares import calibration_error
from eye_disease.training.photo_checks import file_covariance
from eye_disease.training.post_hoc import (
    FLAGGED_SHARE,
    MIN_SOURCE,
    NOISE_WEIGHT,
    OTHER_SHARE,
    SECOND_SHARE,
    UNFAMILIAR_SHARE,
    fit_embedding,
    fit_familiarity,
    fit_other_finding,
    fit_quality,
    fit_second_disease,
    fit_temperature,
)
from model_code.embedding import LOGGED_COMPONENTS
from model_code.familiarity import ood_score, quality_margin, source_distance
from model_code.package import Statistics


@pytest.mark.parametrize("temperature", [0.4, 0.83, 1.0, 2.5])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20_000, 4))
    cumulated = softmax(logits / temperature, axis=1).cumsum(axis=1)
    labels = (rng.random((20_000, 1)) > cumulated).sum(axis=1).clip(0, 3)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.04)


def test_an_overconfident_network_is_calibrated_by_its_temperature() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (5_000, 3))
    labels = (rng.random((5_000, 1)) > softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1).clip(0, 2)
    overconfident = logits * 4
    fitted = overconfident / fit_temperature(overconfident, labels)
    right = logits.argmax(axis=1) == labels
    assert calibration_error(softmax(overconfident, axis=1).max(axis=1), right) > 0.15
    assert calibration_error(softmax(fitted, axis=1).max(axis=1), right) < 0.03


def test_the_fitted_components_are_orthonormal_and_the_strongest_come_first() -> None:
    rng = np.random.default_rng(1)
    plane = np.linalg.qr(rng.normal(size=(200, 20)))[0]
    training = rng.normal(size=(600, 20)) * np.linspace(20, 2, 20) @ plane.T + 5
    fitted = fit_embedding(training)
    assert fitted.components is not None
    assert fitted.embedding_mean == pytest.approx(training.mean(axis=0))
    assert fitted.components.shape == (200, LOGGED_COMPONENTS)
    assert fitted.components.T @ fitted.components == pytest.approx(np.eye(LOGGED_COMPONENTS), abs=1e-8)
    spread = ((training - training.mean(axis=0)) @ fitted.components).std(axis=0)
    assert (np.diff(spread) <= 1e-6).all()


NO_NOISE = np.zeros((6, 6))


def _styles(count: int, seed: int, centre: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(centre, 1, (count, 6)) * np.linspace(1, 5, 6)


def test_the_limits_flag_the_set_shares_of_good_photos_and_all_strange_ones() -> None:
    training = np.concatenate([_styles(500, 1), _styles(500, 2, centre=30)])
    sources = np.repeat(["a", "b"], 500)
    validation = np.concatenate([_styles(1000, 3), _styles(1000, 4, centre=30)])
    fitted = fit_familiarity(training, sources, validation, NO_NOISE)
    scores = np.array([ood_score(one, fitted) for one in validation])
    assert (scores > 1).mean() == pytest.approx(FLAGGED_SHARE, abs=0.002)
    assert (scores > fitted.familiar_limit).mean() == pytest.approx(UNFAMILIAR_SHARE, abs=0.002)
    between = np.array([ood_score(one, fitted) for one in _styles(200, 5, centre=15)])
    assert (between > 1).all()


def test_each_source_has_its_own_mean_and_covariance() -> None:
    training = np.concatenate([_styles(4000, 1), 3 * _styles(4000, 2) + 50])
    fitted = fit_familiarity(training, np.repeat(["a", "b"], 4000), training, NO_NOISE)
    assert fitted.source_means[0] == pytest.approx(np.zeros(6), abs=0.3)
    assert fitted.source_means[1] == pytest.approx(np.full(6, 50), abs=0.8)
    variances = [np.diag(np.linalg.inv(precision)) for precision in fitted.source_precisions]
    assert variances[1] / variances[0] == pytest.approx(np.full(6, 9), rel=0.15)


@pytest.mark.parametrize(
    ("counts", "groups"),
    [((100, 100), 2), ((100, MIN_SOURCE - 1), 1), ((100, 30, 30), 2), ((20, 10), 1), ((500,), 1)],
)
def test_small_sources_are_described_together(counts: tuple[int, ...], groups: int) -> None:
    sources = np.repeat([f"source-{i}" for i in range(len(counts))], counts)
    training = _styles(len(sources), 1)
    fitted = fit_familiarity(training, sources, training, NO_NOISE)
    assert fitted.source_means.shape == (groups, 6)
    assert np.isfinite(source_distance(training, fitted)).all()


def test_ruined_photos_are_told_from_good_ones() -> None:
    good, ruined, validation = _styles(1000, 1), _styles(1000, 2, centre=4), _styles(2000, 3)
    weights = fit_quality(good, ruined, validation, NO_NOISE)
    assert (quality_margin(validation, weights) > 0).mean() == pytest.approx(FLAGGED_SHARE, abs=0.001)
    assert (quality_margin(_styles(1000, 4, centre=4), weights) > 0).mean() > 0.99


def _saved_again(styles: np.ndarray, seed: int) -> np.ndarray:
    """The styles of copies: the file moves the first of the six by as much as photos differ in it, and no other."""
    return styles + np.random.default_rng(seed).normal(0, 1, len(styles))[:, None] * np.eye(6)[0]


def test_what_moves_with_the_file_hardly_moves_the_distance() -> None:
    training = _styles(2000, 1)
    noise = file_covariance(training, _saved_again(training, 2))
    assert noise == pytest.approx(np.diag([1.0, 0, 0, 0, 0, 0]), abs=0.1)
    noise *= 10 / NOISE_WEIGHT
    photos = _styles(500, 3)
    moved = _saved_again(photos, 4)

    def changes(fitted: Statistics) -> float:
        return float(np.abs(source_distance(photos, fitted) - source_distance(moved, fitted)).mean())

    sources = np.repeat("a", len(training))
    deaf = fit_familiarity(training, sources, training, noise)
    assert changes(deaf) < 0.2 * changes(fit_familiarity(training, sources, training, NO_NOISE))
    strange = photos + 40 * np.eye(6)[5]
    assert (source_distance(strange, deaf) > deaf.ood_limit).all()


def test_gradability_is_not_read_off_what_the_file_changes() -> None:
    """The ruined photos differ in what the file changes and in what it does not; only the second counts."""
    good = _styles(1500, 1)
    ruined = _styles(1500, 2) + np.array([1.0, 0, 0, 0, 0, 12.0])
    noise = 10 / NOISE_WEIGHT * file_covariance(good, _saved_again(good, 3))
    deaf, plain = (fit_quality(good, ruined, good, used) for used in (noise, NO_NOISE))
    per_deviation = np.abs(deaf[:-1] * good.std(axis=0))
    assert per_deviation[0] < 0.1 * per_deviation[5], "the noise is ten times the photos' own variance there"
    assert np.abs(deaf[0]) < 0.3 * np.abs(plain[0])
    assert (quality_margin(ruined, deaf) > 0).mean() > 0.4


def test_the_score_of_another_finding_is_as_often_right_as_it_says() -> None:
    rng = np.random.default_rng(7)
    without, other = rng.normal(-1, 1, 3000), rng.normal(1, 1, 1000)
    fitted = fit_other_finding(without, other)
    scores = expit(fitted.slope * np.r_[without, other] + fitted.offset)
    labels = np.repeat([0, 1], [3000, 1000])
    middle = (scores > 0.3) & (scores < 0.5)
    assert labels[middle].mean() == pytest.approx(scores[middle].mean(), abs=0.05)
    assert (scores[labels == 0] >= fitted.limit).mean() == pytest.approx(OTHER_SHARE, abs=0.002)


def test_the_limit_for_a_second_disease_is_reached_by_few() -> None:
    probabilities = np.random.default_rng(8).dirichlet([3, 1, 1, 1], 5000)
    limit = fit_second_disease(probabilities, ("normal", "x", "y", "z"))
    assert (np.sort(probabilities[:, 1:], axis=1)[:, -2] >= limit).mean() == pytest.approx(SECOND_SHARE, abs=0.001)
