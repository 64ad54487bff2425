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
    window, normal = profile.whole, reference.profile.whole if reference else None
    return [
        check
        for check in (
            _confidence(window, normal, limits.min_confidence),
            _low_confidence(window, normal, limits.max_low_confidence_share),
            _latency(window, limits.max_inference_time_ms),
            _commonest_class(profile, window, normal, limits.max_class_share),
        )
        if check
    ]


def _confidence(window: Tally, normal: Tally | None, limit: float) -> Check | None:
    if window.mean_confidence is None:
        return None
    value, p_value, expected = window.mean_confidence, None, None
    if normal is not None and normal.mean_confidence is not None:
        expected = normal.mean_confidence
        deviation = np.sqrt(max(normal.confidence_squares / FIXED_POINT / normal.answered - expected**2, 0))
        p_value = mean_p_value(expected - value, deviation, window.answered, normal.answered)
    return _rule("confidence", "mean", value, limit, window.answered, value < limit, p_value, expected)


def _low_confidence(window: Tally, normal: Tally | None, limit: float) -> Check | None:
    hits, n = window.flag("low_confidence")
    return _share("low_confidence", hits, n, normal.flag("low_confidence") if normal else None, limit)


def _latency(window: Tally, limit: float) -> Check | None:
    value = window.mean_latency_ms
    if value is None:
        return None
    return _rule("inference_time_ms", "mean_latency", value, limit, int(window.latency.sum()), value > limit, None, None)


def _commonest_class(profile: Profile, window: Tally, normal: Tally | None, limit: float) -> Check | None:
    best = int(window.classes.argmax())
    usual = None if normal is None else (int(normal.classes[best]), normal.answered)
    name = profile.layout.classes[best]
    return _share("predicted_class", int(window.classes[best]), window.answered, usual, limit, problem=name)


def _share(stream: str, hits: int, n: int, usual: tuple[int, int] | None, limit: float, problem: str = "") -> Check | None:
    """usual: hits and n of the reference."""
    if n == 0:
        return None
    p_value = expected = None
    if usual and usual[1]:
        expected = usual[0] / usual[1]
        pooled = (hits + usual[0]) / (n + usual[1])
        p_value = mean_p_value(hits / n - expected, np.sqrt(pooled * (1 - pooled)), n, usual[1])
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
