"""The paired test, and evidence that may be looked at after every label: its errors, its power, where its values come from."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from eye_disease.evaluation.paired import (
    Outcomes,
    Paired,
    interval,
    log_evidence_above,
    log_evidence_better,
    log_evidence_worse,
)

ALPHA = 0.05
NEEDED = np.log(2 / ALPHA)
RUNS, LABELS = 100, 2500


@pytest.mark.parametrize(("lost", "won"), [(10, 2), (5, 5), (0, 7), (1, 0), (40, 22)])
def test_the_paired_test_is_the_exact_binomial_on_pairs_that_differ(lost: int, won: int) -> None:
    before = np.array([True] * lost + [False] * won + [True] * 30 + [False] * 4)
    now = np.array([False] * lost + [True] * won + [True] * 30 + [False] * 4)
    paired = Paired.of(before, now)
    assert (paired.lost, paired.won) == (lost, won)
    assert paired.p_worse == pytest.approx(binom.sf(lost - 1, lost + won, 0.5))


def test_the_paired_test_of_a_worked_example() -> None:
    """Ten heads or more in twelve throws: (66 + 12 + 1) / 4096."""
    paired = Paired.of(np.arange(12) < 10, np.arange(12) >= 10)
    assert paired.p_worse == pytest.approx(79 / 4096)
    assert Paired.of(np.ones(5, bool), np.ones(5, bool)).p_worse == 1


def _paired_paths(won: float, lost: float, margin: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Evidence (RUNS, LABELS) for and against the challenger after each label, of photos that both answered."""
    rng = np.random.default_rng(seed)
    outcome = rng.choice(3, (RUNS, LABELS), p=[lost, 1 - won - lost, won])
    counts = (outcome[..., None] == np.arange(3)).cumsum(axis=1)
    signs = np.array([-1, 0, 1])
    better = log_evidence_above(signs, counts, -margin)
    worse = log_evidence_above(signs, counts[..., ::-1], margin)
    return np.logaddexp(better, 0) - np.log(2), np.logaddexp(worse, 0) - np.log(2)  # nothing unpaired: an e-value of 1


def _first(paths: np.ndarray) -> np.ndarray:
    """Labels until the decision of each run; LABELS + 1 where there is none."""
    decided = paths >= NEEDED
    return np.where(decided.any(axis=1), decided.argmax(axis=1) + 1, LABELS + 1)


def test_the_paths_are_those_of_the_rule() -> None:
    outcomes = Outcomes(won=9, lost=2, same=40)
    for margin in (0.0, 0.02):
        alone = log_evidence_above(np.array([-1, 0, 1]), np.array([2, 40, 9]), -margin)
        assert log_evidence_better(outcomes, -margin) == pytest.approx(np.logaddexp(alone, 0) - np.log(2))


@pytest.mark.parametrize(("won", "lost", "margin"), [(0.05, 0.05, 0.0), (0.2, 0.2, 0.0), (0.04, 0.06, 0.02)])
def test_looked_at_after_every_label_it_prefers_a_version_wrongly_in_at_most_alpha_of_runs(
    won: float, lost: float, margin: float
) -> None:
    """The challenger is exactly as much worse as the margin: both decisions are wrong then."""
    better, worse = _paired_paths(won, lost, margin, seed=1)
    wrong = int((np.minimum(_first(better), _first(worse)) <= LABELS).sum())
    assert wrong <= ALPHA * RUNS


def test_a_fixed_sample_test_looked_at_every_day_would_not_do() -> None:
    """What the method is for: McNemar's test at the same level, looked at after every 50th label."""
    rng = np.random.default_rng(1)
    outcome = rng.choice(3, (RUNS, LABELS), p=[0.05, 0.9, 0.05])
    lost, won = ((outcome == value).cumsum(axis=1)[:, 49::50] for value in (0, 2))
    p_values = 2 * binom.cdf(np.minimum(won, lost), won + lost, 0.5)
    assert (p_values.min(axis=1) <= ALPHA).mean() > 3 * ALPHA


def test_a_difference_is_found_with_a_sensible_number_of_labels() -> None:
    """Five points more accurate: a test with a size fixed beforehand needs about 350 labels for a power of 0.8."""
    better, worse = _paired_paths(0.08, 0.03, 0.0, seed=2)
    assert np.median(_first(better)) < 700
    assert (_first(better) <= LABELS).all()
    assert (_first(worse) > LABELS).all()
    better, worse = _paired_paths(0.03, 0.10, 0.02, seed=3)  # five points below the margin
    assert (_first(worse) <= LABELS).mean() > 0.95
    assert (_first(better) > LABELS).all()


@pytest.mark.parametrize(("champion", "challenger", "decided"), [(0.8, 0.8, False), (0.7, 0.9, True)])
def test_without_common_photos_it_errs_as_rarely_and_still_finds_a_difference(
    champion: float, challenger: float, decided: bool
) -> None:
    """An A/B test with a tenth for the challenger, looked at on 25 days."""
    rng = np.random.default_rng(4)
    runs, days = 15, 25
    right, wrong = 0, 0
    for _ in range(runs):
        ours = rng.binomial(90, champion, days).cumsum()
        theirs = rng.binomial(10, challenger, days).cumsum()
        seen = np.arange(1, days + 1)
        paths = [
            (log_evidence_better(outcomes, 0.0), log_evidence_worse(outcomes, 0.0))
            for outcomes in (
                Outcomes(champion=(90 * n - a, a), challenger=(10 * n - b, b))
                for n, a, b in zip(seen, ours, theirs, strict=True)
            )
        ]
        better, worse = np.array(paths).T >= NEEDED
        right += int(better.any())
        wrong += int(worse.any()) if decided else int(better.any() or worse.any())
    assert wrong <= max(1, ALPHA * runs)
    assert right >= 0.8 * runs if decided else right <= ALPHA * runs


def test_an_e_value_expects_no_more_than_one() -> None:
    """Exactly, over all outcomes of five draws at the boundary of the claim: the definition of an e-value."""
    values = np.array([-1.0, 0.0, 1.0])
    for shares, mean in (((0.3, 0.4, 0.3), 0.0), ((0.3, 0.5, 0.2), -0.1), ((0.5, 0.5, 0.0), -0.5)):
        expected = 0.0
        for draws in product(range(3), repeat=5):
            counts = np.bincount(draws, minlength=3)
            expected += np.prod(np.array(shares)[list(draws)]) * np.exp(log_evidence_above(values, counts, mean))
        assert expected == pytest.approx(1.0)


def test_an_e_value_of_two_samples_expects_no_more_than_one() -> None:
    for ours, theirs in ((0.5, 0.5), (0.9, 0.9), (0.8, 0.3)):
        expected = 0.0
        for a, b in product(range(5), repeat=2):
            chance = binom.pmf(a, 4, ours) * binom.pmf(b, 4, theirs)
            outcomes = Outcomes(champion=(4 - a, a), challenger=(4 - b, b))
            expected += chance * np.exp(log_evidence_better(outcomes, 0.0))
        assert expected <= 1.0


def test_the_interval_holds_the_observed_difference_and_narrows() -> None:
    few, many = interval(Outcomes(8, 3, 89), ALPHA), interval(Outcomes(800, 300, 8900), ALPHA)
    assert few[0] < 0.05 < few[1]
    assert few[0] < many[0] < 0.05 < many[1] < few[1]
    assert many[1] - many[0] < 0.03
    split = interval(Outcomes(champion=(200, 800), challenger=(100, 900)), ALPHA)
    assert 0 < split[0] < 0.1 < split[1] < 0.2


def test_the_interval_and_the_evidence_agree() -> None:
    outcomes = Outcomes(40, 12, 400, (20, 80), (5, 95))
    low, high = interval(outcomes, ALPHA)
    assert log_evidence_better(outcomes, low - 1e-3) >= NEEDED > log_evidence_better(outcomes, low + 1e-3)
    assert log_evidence_worse(outcomes, high + 1e-3) >= NEEDED > log_evidence_worse(outcomes, high - 1e-3)


def test_nothing_is_known_without_labels() -> None:
    assert log_evidence_better(Outcomes(), 0.0) == log_evidence_worse(Outcomes(), 0.0) == pytest.approx(0.0)
    assert interval(Outcomes(), ALPHA) == (pytest.approx(-1), pytest.approx(1))


def test_exchanging_the_versions_exchanges_the_evidence() -> None:
    outcomes = Outcomes(7, 3, 50, (10, 20), (5, 40))
    assert outcomes.swapped() == Outcomes(3, 7, 50, (5, 40), (10, 20))
    assert log_evidence_better(outcomes, 0.01) == log_evidence_worse(outcomes.swapped(), -0.01)


def test_mcnemar() -> None:
    assert Outcomes(won=10, lost=2, same=5).mcnemar_p_value == pytest.approx(binomtest(10, 12).pvalue)
    assert Outcomes(same=5).mcnemar_p_value == 1.0


@pytest.mark.parametrize("difference", [-1.0, 1.0])
def test_the_ends_of_the_scale_are_no_special_case(difference: float) -> None:
    for outcomes in (Outcomes(5, 0, 0), Outcomes(0, 5, 0), Outcomes(champion=(0, 9), challenger=(9, 0))):
        assert np.isfinite(log_evidence_better(outcomes, difference))
