"""The tests on merged windows against the textbook's, on raw values and far in the tail."""

import numpy as np
import pytest
from scipy.stats import binom, fisher_exact, mannwhitneyu

from eye_disease.profiles.count_tests import Counts, ShiftTests, mean_change, rank_shift, two_points
from eye_disease.profiles.distances import ks_distance, ks_p_value
from eye_disease.profiles.layout import Layout
from eye_disease.profiles.profile import Profile
from tests.support.drift_records import CLASSES, make_records


def test_the_rank_shift_is_that_of_mann_and_whitney_on_the_same_bins() -> None:
    rng = np.random.default_rng(0)
    window, base = rng.integers(0, 12, 90), rng.integers(1, 13, 300)
    value, p_value = rank_shift(np.bincount(window, minlength=13), np.bincount(base, minlength=13))
    expected = mannwhitneyu(window, base, use_continuity=False, method="asymptotic")
    assert value == pytest.approx(expected.statistic / (90 * 300) - 0.5)
    assert p_value == pytest.approx(expected.pvalue, rel=0.01)


@pytest.mark.parametrize(("hits", "n", "share"), [(14, 100, 0.02), (30, 800, 0.01), (9, 50, 0.01), (150, 200, 0.5)])
def test_a_change_of_a_share_keeps_its_level_where_counts_are_skewed(hits: int, n: int, share: float) -> None:
    base = 1_000_000
    _, p_value = mean_change(np.array(hits), np.array(n), np.array(share * base), np.array(base))
    exact = min(2 * binom.sf(hits - 1, n, share), 1)
    assert exact < 1e-6
    assert 0.2 < p_value / exact < 2


def test_a_change_of_a_share_agrees_with_fisher() -> None:
    _, p_value = mean_change(np.array(60), np.array(400), np.array(70), np.array(1_000))
    assert p_value == pytest.approx(fisher_exact([[60, 340], [70, 930]]).pvalue, rel=0.5)


@pytest.mark.parametrize("n", [200, 800])
@pytest.mark.parametrize("share", [0.04, 0.1, 0.25, 0.6])
def test_a_mean_of_probabilities_keeps_its_level_beyond_what_can_be_simulated(n: int, share: float) -> None:
    """Against the exact distribution of the sum, which is that of one probability, convolved n times."""
    grid, rng = 500, np.random.default_rng(5)
    values = np.where(rng.random(20_000) < share, rng.beta(4, 1, 20_000), rng.beta(1, 20, 20_000))
    places = np.arange(grid + 1) / grid
    pmf = np.bincount(np.rint(values * grid).astype(int), minlength=grid + 1) / 20_000
    mean = float(pmf @ places)
    variance = float(pmf @ places**2) - mean**2
    skewness = float(pmf @ (places - mean) ** 3) / variance**1.5
    low, step = two_points(np.array(mean), np.array(variance), np.array(skewness))
    size = 1 << int(np.ceil(np.log2(grid * n + 1)))
    exact = np.fft.irfft(np.fft.rfft(pmf, size) ** n, size).clip(0)[::-1].cumsum()[::-1]
    base = 1e9
    for level in (1e-3, 1e-5, 1e-7, 1e-9):
        at = int(np.searchsorted(-exact, -level))
        hits, base_hits = (at / grid - n * low) / step, (base * mean - base * low) / step
        _, p_value = mean_change(hits, np.array(n), base_hits, np.array(base))
        assert 0.5 < 2 * exact[at] / p_value < 2


def test_two_points_have_the_moments_that_they_are_to_have() -> None:
    mean, variance, skewness = 0.08, 0.025, 3.1
    low, step = two_points(np.array(mean), np.array(variance), np.array(skewness))
    upper = (mean - low) / step
    assert upper * (1 - upper) * step**2 == pytest.approx(variance)
    assert (1 - 2 * upper) / np.sqrt(upper * (1 - upper)) == pytest.approx(skewness)


def test_the_ks_distance_of_bins_keeps_its_level_and_wastes_none() -> None:
    rng = np.random.default_rng(5)
    layout = Layout(("a",), {"x": tuple(np.linspace(0, 1, 33))})
    tests = ShiftTests(layout, np.eye(1), Counts(np.zeros((1, layout.bins)), np.zeros(1), np.zeros((3, 2))))
    shape = (20_000, 1, layout.bins)
    bins = np.r_[0, np.full(32, 1 / 32), 0]
    windows, bases = (
        Counts(
            rng.multinomial(n, bins, shape[0]).reshape(shape).astype(float), np.zeros((shape[0], 1)), np.zeros((shape[0], 3, 2))
        )
        for n in (300, 1_000)
    )
    p_values = tests(windows, bases)[1][:, tests.names.index(("x", "ks"))]
    for level in (0.05, 0.01, 0.002):
        assert 0.6 * level < (p_values <= level).mean() < 1.2 * level


def test_all_tests_of_a_profile_with_their_names() -> None:
    reference, window = make_records(600, seed=2), make_records(200, seed=3, sharpness=0.8, mix=(0.5, 0.2, 0.2, 0.1))
    layout = Layout.fit(reference, CLASSES)
    profiles = [Profile.from_table(records, layout) for records in (window, reference)]
    counts = [Counts.of(profile.whole, layout) for profile in profiles]
    probabilities = np.column_stack([reference[f"prob_{name}"].to_numpy() for name in CLASSES])
    tests = ShiftTests(layout, probabilities.T @ probabilities / 600, counts[1])
    result = dict(zip(tests.names, zip(*tests(*counts), strict=True), strict=True))
    assert len(result) == 2 * len(layout.streams) + 3
    raw = window["prob_cataract"].to_numpy().mean() - reference["prob_cataract"].to_numpy().mean()
    assert result["prob_cataract", "mean_change"][0] == pytest.approx(raw, abs=1e-4)
    assert result["sharpness", "rank_shift"][0] < -0.2
    rows = [profile.counts(profile.whole)["sharpness"] for profile in profiles]
    distance = float(ks_distance(*rows))
    value, p_value = result["sharpness", "ks"]
    assert value == pytest.approx(distance)
    assert 0.1 * ks_p_value(distance, 200, 600) < p_value < ks_p_value(distance, 200, 600)
    assert result["contrast", "rank_shift"][1] > 1e-3


def test_leading_axes_and_nothing_at_all() -> None:
    layout = Layout.fit(make_records(300, seed=4), CLASSES)
    counts = [Counts.of(Profile.from_table(make_records(60, seed), layout).whole, layout) for seed in (5, 6, 7)]
    tests = ShiftTests(layout, np.eye(4) / 4, counts[0])
    together = tests(Counts.stack(counts), counts[0] + counts[1])
    alone = tests(counts[2], counts[0] + counts[1])
    for many, single in zip(together, alone, strict=True):
        np.testing.assert_allclose(many[2], single)
    nothing = counts[0] - counts[0]
    for window, base in ((nothing, counts[0]), (counts[0], nothing), (nothing, nothing)):
        values, p_values = tests(window, base)
        assert not values.any()
        assert (p_values == 1).all()
    sums = Counts.stack(counts).cumulative()
    np.testing.assert_array_equal((sums[3] - sums[1]).histograms, (counts[1] + counts[2]).histograms)
