"""When a drift has begun: the split, its interval, and that it may be over."""

from datetime import UTC, datetime, timedelta

import numpy as np

from eye_disease.verdict.since import Series, Since, split

START = datetime(2026, 11, 14, 9, tzinfo=UTC)


def series(means: np.ndarray, seed: int = 0, n: int = 100) -> Series:
    """Windows of n scores of variance 1 with these true means, against a reference of 1,000."""
    rng = np.random.default_rng(seed)
    sums = n * means + np.sqrt(n) * rng.normal(size=len(means))
    return Series(sums, np.full(len(means), float(n)), 30 * float(rng.normal()), 1_000.0, 1.0, 1.0)


def step(length: int, first: int, last: int | None = None, size: float = 0.25) -> np.ndarray:
    means = np.zeros(length)
    means[first:last] = size
    return means


def test_the_beginning_is_found_and_its_interval_holds_what_it_promises() -> None:
    result = [split(series(step(70, 61), seed)) for seed in range(200)]
    assert result.count(None) <= 10, "a drift that goes on is taken for over in five of a hundred at most"
    near = np.array([begun for begun in result if begun])
    assert (np.abs(near[:, 0] - 61) <= 2).mean() > 0.85
    assert ((near[:, 1] <= 61) & (near[:, 2] >= 61)).mean() >= 0.95
    assert (near[:, 2] - near[:, 1]).mean() < 8


def test_a_drift_that_is_over_is_none() -> None:
    over = [split(series(step(80, 40, 74, size=0.3), seed)) for seed in range(50)]
    assert over.count(None) >= 48
    still = [split(series(step(80, 40, size=0.3), seed)) for seed in range(200)]
    assert still.count(None) <= 10


def test_a_change_to_the_other_side_is_no_beginning_of_this_drift() -> None:
    means = step(60, 50, size=0.4) - step(60, 20, 40, size=0.4)
    result = split(series(means, seed=3))
    assert result is not None
    assert abs(result[0] - 50) <= 3


def test_windows_of_all_sizes_and_empty_ones() -> None:
    n = np.array([500.0, 0.0, 20.0, 900.0, 0.0, 70.0, 400.0])
    means = np.array([0, 0, 0, 0, 0.5, 0.5, 0.5])
    result = split(Series(n * means, n, 0.0, 1_000.0, 1.0, 1.0))
    assert result is not None
    assert result[0] in (4, 5)


def told(before: int, after: int, **more: bool) -> str:
    return str(Since(7, START, 5, 9, START - timedelta(hours=before), START + timedelta(hours=after), **more))


def test_as_it_is_told() -> None:
    assert told(0, 0) == "since about 14 November 2026, 09:00 UTC"
    assert told(1, 3) == "since about 14 November 2026, 09:00 UTC (14 November 2026, 08:00 UTC to 14 November 2026, 12:00 UTC)"
    assert told(48, 24) == "since about 14 November 2026 (12 November 2026 to 15 November 2026)"
    assert told(72, 0, open=True) == "since about 14 November 2026 or before"


def test_what_began_before_the_kept_windows_keeps_its_date() -> None:
    early = Since(3, START, 3, 3, START, START)
    later = Since(40, START, 40, 40, START, START, open=True)
    assert later.carried(early) == early
    assert later.carried(None) == later
    assert Since(40, START, 40, 40, START, START).carried(early).number == 40
    assert Since(2, START, 2, 2, START, START, open=True).carried(early).number == 2
