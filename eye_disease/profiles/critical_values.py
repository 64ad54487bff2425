"""Critical values by window size: distances of windows without drift from the reference, by resampling."""

from collections.abc import Mapping

import numpy as np

from eye_disease.profiles.distances import js_distance, ks_distance

WINDOW_SIZES = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 100_000)
FAMILY_LEVEL = 0.01
"""Share of windows without drift in which any stream exceeds its critical value."""
CLASS_STREAM = "predicted_class"
SHARES = ("gradable", "out_of_distribution", "unfamiliar_camera")
"""Flags whose share is a stream; that of `low_confidence` is one of the rules."""
_RESAMPLES = 1_000
_SINGLE_LEVEL = 0.95


def critical_values(codes: Mapping[str, np.ndarray], reference_n: int, seed: int = 0) -> dict[str, tuple[float, ...]]:
    """Stream -> critical value at each of WINDOW_SIZES.

    codes: stream -> int (N,), the bin or category of each reference record, -1 where it has no value.
    reference_n: the reference's size. Future windows come from the population, not from the reference, so each resample
    draws both: a reference of its size and a window, from the records taken as the population.

    The values hold for all streams together: one factor on every stream's 95 % quantile such that in 99 % of the resamples
    no stream exceeds it (max-T, Westfall & Young, Resampling-Based Multiple Testing, 1993), which keeps their correlation.
    The flags of SHARES have a factor of their own, at half the level each: rare ones move in steps, which would raise all.
    """
    rng = np.random.default_rng(seed)
    rows = len(next(iter(codes.values())))
    continuous = [name for name in codes if name not in SHARES]
    indicators = {name: _indicators(codes[name]) for name in [*continuous, *(name for name in codes if name in SHARES)]}
    drawn = _draws(rng, reference_n, rows)
    references = {name: drawn @ indicator for name, indicator in indicators.items()}
    table = []
    for n in WINDOW_SIZES:
        windows = _draws(rng, n, rows)
        distances = np.column_stack(
            [distance(name, windows @ indicator, references[name]) for name, indicator in indicators.items()]
        )
        table.append(np.concatenate([_family_limits(group) for group in np.split(distances, [len(continuous)], axis=1)]))
    return {name: tuple(np.round(values, 5).tolist()) for name, values in zip(indicators, np.array(table).T, strict=True)}


def _family_limits(distances: np.ndarray) -> np.ndarray:
    """Distances without drift (_RESAMPLES, K) -> a limit for each, (K,), that all keep together in 1 - FAMILY_LEVEL / 2."""
    if distances.shape[1] == 0:
        return np.empty(0)
    single = np.quantile(distances, _SINGLE_LEVEL, axis=0)
    ratios = np.divide(distances, single, out=np.zeros_like(distances), where=single > 0)
    return np.asarray(single * np.quantile(ratios.max(axis=1), 1 - FAMILY_LEVEL / 2))


def interpolated(values: tuple[float, ...], n: int) -> float:
    """A critical value at window size n, linear in log n; the smallest and largest sizes stand for what lies beyond."""
    return float(np.interp(np.log(max(n, 1)), np.log(WINDOW_SIZES), values))


def distance(stream: str, window: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Of two rows of counts, (..., K) each -> (...,): `js_distance` for CLASS_STREAM, `ks_distance` for the others."""
    return js_distance(window, reference) if stream == CLASS_STREAM else ks_distance(window, reference)


def _indicators(index: np.ndarray) -> np.ndarray:
    """int (N,) -> float32 (N, K) of ones and zeros, a zero row for -1."""
    return np.asarray((index[:, None] == np.arange(max(index.max(initial=0), 1) + 1)).astype(np.float32))


def _draws(rng: np.random.Generator, n: int, rows: int) -> np.ndarray:
    """How often each row is drawn in n draws with replacement, float32 (_RESAMPLES, rows)."""
    return rng.multinomial(n, np.full(rows, 1 / rows), size=_RESAMPLES).astype(np.float32)
