"""References and windows drawn from real answers: what every detector is shown."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Window:
    """Records that a detector judges against a reference."""

    case: str
    """`no drift`, or kind and strength"""
    expected_kind: str | None
    """`prevalence`, `acquisition`, None without drift"""
    records: pa.Table


@dataclass(frozen=True)
class Trial:
    """A reference with its windows."""

    reference: pa.Table
    windows: list[Window]


@dataclass(frozen=True)
class Population:
    """Records that windows of one case are drawn from."""

    case: str
    kind: str | None
    records: pa.Table
    weights: np.ndarray | None = None
    """(N,): probability of each record; None: all alike"""


def from_population(
    usual: pa.Table, populations: list[Population], reference_n: int, sizes: tuple[int, ...], repeats: int, seed: int
) -> Trial:
    """Reference and windows drawn with replacement, so that the answers at hand are the whole population.

    No drift is exactly that here, at any size: both sides come from the same population. A photo may come twice.
    """
    rng = np.random.default_rng(seed)
    reference = _drawn(usual, rng.integers(0, len(usual), reference_n), rng)
    windows = [
        Window(one.case, one.kind, _drawn(one.records, rng.choice(len(one.records), n, p=one.weights), rng))
        for n in sizes
        for one in populations
        for _ in range(repeats)
    ]
    return Trial(reference, windows)


def held_out(usual: pa.Table, reference_n: int, sizes: tuple[int, ...], repeats: int, seed: int) -> Trial:
    """Reference and windows of different photos, none twice within a window: only for sizes that the rest allows."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(usual))
    rest = order[reference_n:]
    windows = [
        Window("no drift", None, _drawn(usual, rng.permutation(rest)[:n], rng))
        for n in sizes
        if n <= len(rest)
        for _ in range(repeats)
    ]
    return Trial(_drawn(usual, order[:reference_n], rng), windows)


def mixed(usual: pa.Table, labels: np.ndarray, label: str, factor: float) -> Population:
    """The usual photos with one class `factor` times as likely."""
    weights = np.where(labels == label, factor, 1.0)
    return Population(f"class mix: {label} x {factor:g}", "prevalence", usual, weights / weights.sum())


def diluted(usual: pa.Table, strange: pa.Table, share: float, case: str) -> Population:
    """The usual photos with a share of others among them."""
    both = pa.concat_tables([usual, strange], promote_options="permissive")
    weights = np.concatenate([np.full(len(usual), (1 - share) / len(usual)), np.full(len(strange), share / len(strange))])
    return Population(f"{case}: {share:.0%}", "acquisition", both, weights)


def _drawn(records: pa.Table, index: np.ndarray, rng: np.random.Generator) -> pa.Table:
    """The records of an index, with prediction ids of their own: a photo drawn twice was sent twice."""
    taken = records.take(pa.array(index))
    ids = pa.array([rng.bytes(8).hex() for _ in index], pa.string())
    return taken.set_column(taken.schema.get_field_index("prediction_id"), "prediction_id", ids)
