"""Statistical drift of a window, or of one site in it, against the reference; and its kind."""

from typing import Literal

import numpy as np

from eye_disease.profiles.critical_values import CLASS_STREAM, SHARES, distance
from eye_disease.profiles.distances import chi_square_p_value, ks_p_value, psi, share_p_value
from eye_disease.profiles.permutation_tests import TestResult, domain_classifier, mmd
from eye_disease.profiles.reference import Reference
from eye_disease.profiles.sample import Sample
from eye_disease.profiles.tally import Tally
from eye_disease.verdict.check import Check, assign_levels
from eye_disease.verdict.limits import DriftLimits

Kind = Literal["prevalence", "acquisition"]
"""prevalence: other diseases than in the reference. acquisition: other photos of them (camera, operator, light, processing)."""

_SMALLEST_SAMPLE = 20
_STATISTICS = {CLASS_STREAM: "js", **dict.fromkeys(SHARES, "share_change")}


def stream_checks(tally: Tally, reference: Reference, limits: DriftLimits, site: str | None = None) -> list[Check]:
    """One check per stream that both sides have values of.

    A stream drifts if its distance is significant, larger than the reference's critical value for this number of
    predictions, and large enough to matter: each of the three alone fails at some size of the window.
    """
    window, expected = reference.profile.counts(tally), reference.profile.counts(reference.profile.whole)
    checks = []
    for stream in reference.critical:
        n, reference_n = int(window[stream].sum()), int(expected[stream].sum())
        if n < limits.min_predictions or reference_n == 0:
            continue
        value = float(distance(stream, window[stream], expected[stream]))
        limit = max(reference.critical_value(stream, n), _smallest(stream, limits))
        checks.append(
            Check(
                source="stream",
                stream=stream,
                statistic=_STATISTICS.get(stream, "ks"),
                value=value,
                limit=limit,
                n=n,
                beyond=value > limit,
                site=site,
                p_value=_p_value(stream, value, window[stream], expected[stream]),
                psi=None if stream in _STATISTICS else float(psi(window[stream], expected[stream])),
            )
        )
    return checks


def embedding_checks(sample: Sample, reference: Reference, limits: DriftLimits) -> list[Check]:
    """Multivariate tests on the samples of embeddings; none where a side has no embeddings or a few only."""
    reference_sample = reference.profile.sample
    if min(len(sample), len(reference_sample)) < _SMALLEST_SAMPLE:
        return []
    tests = {
        "mmd": (mmd(sample.rows, reference_sample.rows), limits.min_mmd),
        "domain_accuracy": (domain_classifier(sample.rows, reference_sample.rows), limits.min_domain_accuracy),
    }
    return [_embedding_check(statistic, result, least, len(sample)) for statistic, (result, least) in tests.items()]


def kind_of_shift(tally: Tally, reference: Reference, limits: DriftLimits) -> Kind:
    """What a drift of these records is: prevalence if the reference with its classes reweighted to theirs explains it.

    Not explained is what still differs then, or a drift although the estimated class mix is the reference's.
    """
    means = tally.means(reference.layout)
    classes = reference.layout.classes
    if any(f"prob_{name}" not in means for name in classes):
        return "acquisition"  # no class mix to explain anything with
    weights = reference.parts.weights(np.array([means[f"prob_{name}"] for name in classes]))
    counts, effective = reference.parts.reweighted(weights)
    shares = reference.parts.moments.sum(axis=0)
    if distance(CLASS_STREAM, shares * weights, shares) <= limits.min_js:
        return "acquisition"
    window, n = reference.profile.counts(tally), tally.answered
    reference_n = effective * reference.profile.whole.answered
    widening = np.sqrt((1 / n + 1 / reference_n) / (1 / n + 1 / reference.profile.whole.answered))
    checks = []
    for stream in reference.critical:
        expected = counts[stream] / counts[stream].sum() * reference_n if counts[stream].any() else counts[stream]
        if not window[stream].any() or not expected.any():
            continue
        value = float(distance(stream, window[stream], expected))
        limit = max(reference.critical_value(stream, n) * widening, _smallest(stream, limits))
        p_value = _p_value(stream, value, window[stream], np.rint(expected))
        checks.append(Check("stream", stream, "residual", value, limit, n, value > limit, p_value=p_value))
    decided = assign_levels(checks, limits.alpha)
    return "acquisition" if any(check.level == "drift" for check in decided) else "prevalence"


def _smallest(stream: str, limits: DriftLimits) -> float:
    if stream == CLASS_STREAM:
        return limits.min_js
    return limits.min_share_change if stream in SHARES else limits.min_ks


def _p_value(stream: str, value: float, window: np.ndarray, reference: np.ndarray) -> float:
    if stream == CLASS_STREAM:
        return chi_square_p_value(window, reference)
    if stream in SHARES:
        return share_p_value(int(window[1]), int(window.sum()), int(reference[1]), int(reference.sum()))
    return ks_p_value(value, window.sum(), reference.sum())


def _embedding_check(statistic: str, result: TestResult, least: float, n: int) -> Check:
    limit = max(result.null_limit, least)
    return Check(
        source="stream",
        stream="embedding",
        statistic=statistic,
        value=result.value,
        limit=limit,
        n=n,
        beyond=result.value > limit,
        p_value=result.p_value,
    )
