"""The four rules: limits on a window's answers that need no statistics to be understood."""

import numpy as np

from eye_disease.profiles.distances import mean_p_value
from eye_disease.profiles.profile import Profile
from eye_disease.profiles.reference import Reference
from eye_disease.profiles.tally import FIXED_POINT, Tally
from eye_disease.verdict.check import Check
from eye_disease.verdict.limits import DriftLimits


def rule_checks(profile: Profile, reference: Reference | None, limits: DriftLimits) -> list[Check]:
    """Mean confidence, low-confidence share, mean inference time, share of the commonest class.

    A value beyond its limit that the reference's own photos would give by chance in a window of this size is a warning:
    a model that lives near a limit would raise an alarm every few windows.
    """
    window, reference_whole = profile.whole, reference.profile.whole if reference else None
    return [
        check
        for check in (
            _confidence(window, reference_whole, limits.min_confidence),
            _low_confidence(window, reference_whole, limits.max_low_confidence_share),
            _latency(window, limits.max_inference_time_ms),
            _commonest_class(profile, window, reference_whole, limits.max_class_share),
        )
        if check
    ]


def _confidence(window: Tally, reference: Tally | None, limit: float) -> Check | None:
    if window.mean_confidence is None:
        return None
    value, p_value, expected = window.mean_confidence, None, None
    if reference is not None and reference.mean_confidence is not None:
        expected = reference.mean_confidence
        deviation = np.sqrt(max(reference.confidence_squares / FIXED_POINT / reference.answered - expected**2, 0))
        p_value = mean_p_value(expected - value, deviation, window.answered, reference.answered)
    return _rule("confidence", "mean", value, limit, window.answered, value < limit, p_value, expected)


def _low_confidence(window: Tally, reference: Tally | None, limit: float) -> Check | None:
    hits, n = window.flag("low_confidence")
    return _share("low_confidence", hits, n, reference.flag("low_confidence") if reference else None, limit)


def _latency(window: Tally, limit: float) -> Check | None:
    value = window.mean_latency_ms
    if value is None:
        return None
    return _rule("inference_time_ms", "mean_latency", value, limit, int(window.latency.sum()), value > limit, None, None)


def _commonest_class(profile: Profile, window: Tally, reference: Tally | None, limit: float) -> Check | None:
    best = int(window.classes.argmax())
    expected = None if reference is None else (int(reference.classes[best]), reference.answered)
    name = profile.layout.classes[best]
    return _share("predicted_class", int(window.classes[best]), window.answered, expected, limit, problem=name)


def _share(stream: str, hits: int, n: int, reference: tuple[int, int] | None, limit: float, problem: str = "") -> Check | None:
    """reference: (hits, n), or None without one."""
    if n == 0:
        return None
    p_value = expected = None
    if reference and reference[1]:
        expected = reference[0] / reference[1]
        pooled = (hits + reference[0]) / (n + reference[1])
        p_value = mean_p_value(hits / n - expected, np.sqrt(pooled * (1 - pooled)), n, reference[1])
    return _rule(stream, "share", hits / n, limit, n, hits / n > limit, p_value, expected, problem)


def _rule(
    stream: str,
    statistic: str,
    value: float,
    limit: float,
    n: int,
    beyond: bool,
    p_value: float | None,
    expected: float | None,
    problem: str = "",
) -> Check:
    return Check(
        source="rule",
        stream=stream,
        statistic=statistic,
        value=value,
        limit=limit,
        n=n,
        beyond=beyond,
        p_value=p_value,
        expected=expected,
        problem=problem,
        insignificant="warning",
    )
