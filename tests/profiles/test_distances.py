import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from eye_disease.profiles.distances import (
    chi_square_p_value,
    js_distance,
    ks_distance,
    ks_p_value,
    mean_p_value,
    psi,
    share_p_value,
)
from eye_disease.profiles.permutation_tests import PERMUTATIONS, domain_classifier, mmd

RNG = np.random.default_rng(0)


def test_ks_of_fine_bins_is_that_of_the_values() -> None:
    a, b = RNG.normal(0, 1, 400), RNG.normal(0.4, 1, 700)
    edges = np.sort(np.concatenate([a, b]))
    counts = [np.bincount(np.searchsorted(edges, x, side="right"), minlength=len(edges) + 1) for x in (a, b)]
    expected = stats.ks_2samp(a, b, method="asymp")
    assert ks_distance(*counts) == pytest.approx(expected.statistic)
    assert expected.pvalue <= ks_p_value(expected.statistic, 400, 700) < 1.5 * expected.pvalue


def test_ks_works_on_many_rows_and_is_nothing_without_values() -> None:
    window = np.array([[1, 0, 0], [0, 0, 0], [2, 2, 2]])
    reference = np.array([[0, 0, 1], [1, 1, 1], [1, 1, 1]])
    assert ks_distance(window, reference).tolist() == [1, 0, 0]


def test_js_is_that_of_scipy() -> None:
    p, q = np.array([3, 0, 7, 10]), np.array([5, 5, 5, 0])
    assert js_distance(p, q) == pytest.approx(jensenshannon(p, q, base=2))
    assert js_distance(p, 10 * p) == 0
    assert js_distance(np.array([1, 0]), np.array([0, 1])) == 1


def test_chi_square_is_that_of_scipy_when_no_class_is_rare() -> None:
    table = np.array([[30, 50, 20], [80, 70, 50]])
    assert chi_square_p_value(*table) == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue)


@pytest.mark.parametrize(
    ("window", "reference"), [([50, 0, 0], [900, 0, 0]), ([50, 1], [900, 1]), ([0, 0], [3, 4]), ([1, 0], [0, 1])]
)
def test_chi_square_says_nothing_of_one_class_or_rare_ones(window: list[int], reference: list[int]) -> None:
    assert chi_square_p_value(np.array(window), np.array(reference)) == 1


def test_chi_square_keeps_its_level_with_rare_classes() -> None:
    rng = np.random.default_rng(1)
    shares = [0.9, 0.06, 0.03, 0.01]
    result = [chi_square_p_value(rng.multinomial(100, shares), rng.multinomial(400, shares)) < 0.01 for _ in range(2_000)]
    assert sum(result) < 40


def test_psi_is_the_textbook_sum_and_does_not_explode_on_empty_bins() -> None:
    reference = np.full(10, 100)
    window = np.array([500, 0, 0, 0, 0, 0, 0, 0, 0, 500])
    assert 1 < psi(window, reference) < 12  # with the smallest float in place of zero it would be about 550
    assert psi(reference, reference) == 0
    even = np.array([150, 50] * 5)
    expected = np.sum((even / 1000 - 0.1) * np.log(even / 1000 / 0.1))
    assert psi(even, reference) == pytest.approx(expected, rel=0.02)


def test_psi_merges_fine_bins_into_ten() -> None:
    fine, coarse = np.full(30, 10), np.full(10, 30)
    window = np.arange(30)
    assert psi(window, fine) == pytest.approx(psi(window.reshape(10, 3).sum(axis=1), coarse))


def test_psi_without_drift_is_spread_as_its_docstring_says() -> None:
    rng = np.random.default_rng(2)
    shares = np.full(10, 0.1)
    limit = stats.chi2.ppf(0.95, 9) * (1 / 300 + 1 / 600)
    beyond = [psi(rng.multinomial(300, shares), rng.multinomial(600, shares)) > limit for _ in range(2_000)]
    assert 0.03 < np.mean(beyond) < 0.07


def test_shares_and_means() -> None:
    assert share_p_value(5, 50, 50, 500) == pytest.approx(1)
    assert share_p_value(30, 50, 50, 500) < 1e-10
    assert mean_p_value(0, 1, 10, 10) == 0.5
    assert mean_p_value(1.96, np.sqrt(50), 100, 100) == pytest.approx(0.025, abs=1e-4)
    assert (mean_p_value(0.1, 0, 5, 5), mean_p_value(0, 0, 5, 5)) == (0, 1)


@pytest.mark.parametrize("test", [mmd, domain_classifier])
def test_embedding_tests_find_a_shift_and_its_p_value_is_never_zero(test: type[mmd]) -> None:
    rng = np.random.default_rng(3)
    reference = rng.normal(size=(200, 16))
    result = test(rng.normal(0.5, 1, (60, 16)), reference)
    assert result.p_value == 1 / (PERMUTATIONS + 1)
    assert result.value > result.null_limit


@pytest.mark.parametrize("test", [mmd, domain_classifier])
def test_embedding_tests_find_another_spread(test: type[mmd]) -> None:
    rng = np.random.default_rng(4)
    assert test(rng.normal(0, 2, (100, 16)), rng.normal(size=(200, 16))).p_value < 0.001


@pytest.mark.parametrize("test", [mmd, domain_classifier])
def test_embedding_tests_keep_their_level(test: type[mmd]) -> None:
    rng = np.random.default_rng(5)
    p_values = [test(rng.normal(size=(40, 16)), rng.normal(size=(80, 16)), seed=i).p_value for i in range(150)]
    assert np.mean(np.array(p_values) <= 0.1) < 0.18  # 0.1 and three standard errors
    assert np.mean(np.array(p_values) <= 0.5) > 0.38


@pytest.mark.parametrize("test", [mmd, domain_classifier])
def test_embedding_tests_survive_constant_columns_and_equal_rows(test: type[mmd]) -> None:
    same = np.ones((30, 16))
    result = test(same, same)
    assert result.value <= result.null_limit
    half = np.column_stack([RNG.normal(size=(30, 8)), np.zeros((30, 8))])
    assert 0 < test(half, half).p_value <= 1


def test_embedding_tests_are_repeatable() -> None:
    a, b = RNG.normal(size=(40, 16)), RNG.normal(size=(50, 16))
    assert mmd(a, b) == mmd(a, b)
    assert domain_classifier(a, b) == domain_classifier(a, b)
