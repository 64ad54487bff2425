import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from eye_disease.evaluation.auroc import Auroc


def test_the_value_is_scikit_learns_with_ties() -> None:
    rng = np.random.default_rng(0)
    ill, scores = rng.random(300) < 0.3, rng.integers(0, 12, 300).astype(float)
    auroc = Auroc.of(scores, ill, np.arange(300))
    assert auroc.value == pytest.approx(roc_auc_score(ill, scores))
    assert (auroc.ill, auroc.healthy) == (ill.sum(), 300 - ill.sum())


def test_the_interval_is_delongs_where_every_patient_has_one_photo() -> None:
    """DeLong's variance from its definition: mean comparison of each photo with all of the other side."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(1, 1, 40), rng.normal(0, 1, 70)
    wins = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    error = np.sqrt(wins.mean(axis=1).var(ddof=1) / 40 + wins.mean(axis=0).var(ddof=1) / 70)
    value = wins.mean()
    spread, odds = 1.959964 * error / (value * (1 - value)), np.log(value / (1 - value))
    auroc = Auroc.of(np.r_[x, y], np.arange(110) < 40, np.arange(110))
    expected = [1 / (1 + np.exp(-(odds + side * spread))) for side in (-1, 1)]
    assert (auroc.low, auroc.high) == pytest.approx(expected, abs=1e-6)


def _people(rng: np.random.Generator, patients: int, eyes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The eyes of a patient score alike; two in ten of the patients have one eye of each side."""
    base, ill = rng.normal(0, 1, patients), rng.random(patients) < 0.4
    ills = np.repeat(ill[:, None], eyes, axis=1)
    ills[rng.random(patients) < 0.2, 0] ^= True
    scores = base[:, None] + 1.2 * ills + 0.2 * rng.normal(0, 1, (patients, eyes))
    return scores.ravel(), ills.ravel(), np.repeat(np.arange(patients), eyes)


@pytest.mark.parametrize("eyes", [1, 2, 6])
def test_the_interval_holds_the_truth_in_nineteen_of_twenty_draws_however_many_photos_a_patient_has(eyes: int) -> None:
    truth = Auroc.of(*_people(np.random.default_rng(99), 40_000, eyes)).value
    rng = np.random.default_rng(eyes)
    aurocs = [Auroc.of(*_people(rng, 80, eyes)) for _ in range(500)]
    assert 0.92 <= np.mean([auroc.low <= truth <= auroc.high for auroc in aurocs]) <= 0.98


def test_photos_counted_as_patients_would_be_too_sure() -> None:
    """Why patients are asked for."""
    scores, ill, patients = _people(np.random.default_rng(5), 80, 6)
    together, apart = Auroc.of(scores, ill, patients), Auroc.of(scores, ill, np.arange(len(ill)))
    assert together.value == apart.value
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_few_photos_that_are_all_told_apart_promise_little() -> None:
    best = Auroc.of(np.r_[np.ones(6), np.zeros(50)], np.arange(56) < 6, np.arange(56))
    assert (best.value, best.high) == (1.0, 1.0)
    assert best.low == pytest.approx(6 / (6 + 1.959964**2), abs=1e-6)
    worst = Auroc.of(np.r_[np.zeros(6), np.ones(50)], np.arange(56) < 6, np.arange(56))
    assert (worst.low, worst.value, worst.high) == pytest.approx((0, 0, 1 - best.low))


def test_one_side_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="0 with the disease and 3 without"):
        Auroc.of(np.arange(3.0), np.zeros(3, bool), np.arange(3))
