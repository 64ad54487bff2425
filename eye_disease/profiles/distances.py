"""Two-sample statistics on counts: how far a window lies from the reference, and how surprising that is without drift."""

import numpy as np
from scipy.special import kolmogorov
from scipy.stats import chi2, fisher_exact, norm

_SMALLEST_EXPECTED = 5
_PSI_BINS = 10


def ks_distance(window: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Largest difference of the distribution functions at the edges, (..., B) x (..., B) counts -> (...,), 0..1.

    At most the distance of the raw values; 0 where a side has no values.
    """
    both = (window.sum(axis=-1) > 0) & (reference.sum(axis=-1) > 0)
    return np.where(both, np.abs(_cumulative(window) - _cumulative(reference)).max(axis=-1), 0.0)


def ks_p_value(distance: float, n: float, reference_n: float) -> float:
    """Asymptotic two-sided p-value of a KS distance (Smirnov 1948); conservative for binned values and ties."""
    return float(kolmogorov(distance * np.sqrt(n * reference_n / (n + reference_n))))


def js_distance(window: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Jensen-Shannon distance of the shares, base 2, 0..1; counts (..., K) -> (...,) (Endres & Schindelin, IEEE TIT 2003)."""
    p, q = _shares(window), _shares(reference)
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return np.asarray(np.sqrt(divergence.clip(0, 1)))


def chi_square_p_value(window: np.ndarray, reference: np.ndarray) -> float:
    """Pearson's test that two rows of counts, (K,) each, have the same shares.

    Categories that expect fewer than 5 in either row are put together, the rarest first (Cochran, Biometrics 1954); 1.0 if
    one is left.
    """
    table = np.array([window, reference], np.float64)
    table = table[:, np.argsort(table.sum(axis=0))]
    shares = table.sum(axis=1) / max(table.sum(), 1)
    while table.shape[1] > 1 and shares.min() * table[:, 0].sum() < _SMALLEST_EXPECTED:
        merged = np.column_stack([table[:, :2].sum(axis=1), table[:, 2:]])
        table = merged[:, np.argsort(merged.sum(axis=0))]
    if table.shape[1] < 2:
        return 1.0
    expected = np.outer(shares, table.sum(axis=0))
    return float(chi2.sf(((table - expected) ** 2 / expected).sum(), table.shape[1] - 1))


def share_p_value(hits: int, n: int, reference_hits: int, reference_n: int) -> float:
    """Fisher's exact test that two shares are equal, two-sided."""
    return float(fisher_exact(np.array([[hits, n - hits], [reference_hits, reference_n - reference_hits]])).pvalue)


def mean_p_value(difference: float, deviation: float, n: int, reference_n: int) -> float:
    """One-sided normal p-value that a mean exceeds the reference's by `difference`; deviation: the standard one of a value."""
    error = deviation * np.sqrt(1 / n + 1 / reference_n)
    if error == 0:
        return 0.0 if difference > 0 else 1.0
    return float(norm.sf(difference / error))


def psi(window: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Population stability index over about ten bins of equal reference mass, (..., B) x (..., B) counts -> (...,).

    sum((p - q) ln(p / q)) (Siddiqi, Credit Risk Scorecards, 2006), each count raised by 1/2, so that an empty bin costs what
    half a record would and not the logarithm of nothing. Without drift about chi2(bins - 1) (1/n + 1/N)
    (Yurdakul & Naranjo, J. Risk Model Validation 2020).
    """
    merged = _PSI_BINS * (_cumulative(reference) - _shares(reference) / 2)  # each bin goes where its middle lies
    index = np.minimum(merged.astype(int), _PSI_BINS - 1)
    groups = index[..., None] == np.arange(_PSI_BINS)
    p = (window[..., None] * groups).sum(axis=-2) + 0.5
    q = (reference[..., None] * groups).sum(axis=-2) + 0.5
    p, q = p / p.sum(axis=-1, keepdims=True), q / q.sum(axis=-1, keepdims=True)
    used = groups.any(axis=-2)
    return np.asarray(np.where(used, (p - q) * np.log(p / q), 0).sum(axis=-1))


def _cumulative(counts: np.ndarray) -> np.ndarray:
    return _shares(counts).cumsum(axis=-1)


def _shares(counts: np.ndarray) -> np.ndarray:
    total = counts.sum(axis=-1, keepdims=True)
    return counts / np.where(total > 0, total, 1)


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence in bits; q > 0 wherever p > 0."""
    ratio = np.divide(p, q, out=np.ones_like(p), where=p > 0)
    return np.asarray((p * np.log2(ratio)).sum(axis=-1))
