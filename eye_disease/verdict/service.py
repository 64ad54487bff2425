"""Health of the service itself: errors, latency, its health probe, lost records."""

from dataclasses import dataclass

from scipy.stats import binom

from eye_disease.profiles.profile import Profile
from eye_disease.verdict.check import Check, Level
from eye_disease.verdict.limits import DriftLimits


@dataclass(frozen=True)
class Health:
    """Result of a health probe of the served model."""

    up: bool
    reason: str | None
    """Why it is down, a sentence; None if it is up."""
    response_time_ms: float | None
    """Of /ping; None if that gave no answer."""
    model_version: str | None
    """The version that answered the canary; None if none did."""
    wrong: bool = False
    """Whether the version itself is at fault: it has answered its own photo, and wrongly. A server that is down, slow or
    refuses the photo (by a setting, by a proxy) says nothing of the version"""


def service_checks(profile: Profile, limits: DriftLimits, health: Health | None, missing_records: int) -> list[Check]:
    """Error share, 99th percentile of the latency, lost records, probe; those there is something to say of.

    health: of the probe; None: not probed. missing_records: gaps in the sequence numbers of the window's processes.
    """
    whole = profile.whole
    n = whole.answered + whole.failed
    checks = []
    if n:
        share = whole.failed / n
        codes = ", ".join(f"{count} {code}" for code, count in sorted(whole.errors.items(), key=lambda item: -item[1])[:3])
        # Exact binomial test that the true share is above the limit: three errors in a small window are not yet a trend.
        p_value = float(binom.sf(whole.failed - 1, n, limits.max_error_share))
        checks.append(_check("error_code", "share", share, limits.max_error_share, n, "drift", codes, p_value))
    if (p99 := whole.latency_quantile(0.99)) is not None:
        checks.append(_check("inference_time_ms", "p99_latency", p99, limits.max_p99_ms, whole.answered, "warning"))
    if lost := max(profile.lost, missing_records):  # a gap includes what its process has reported as lost
        total = n + lost
        problem = f"{lost} records lost: the log could not be written, or files are missing"
        checks.append(_check("sequence", "lost_share", lost / total, limits.max_lost_share, total, "warning", problem))
    if health is not None:
        checks.append(_check("probe", "failures", float(not health.up), 0.0, 1, "drift", health.reason or ""))
    return checks


def _check(
    stream: str,
    statistic: str,
    value: float,
    limit: float,
    n: int,
    worst: Level,
    problem: str = "",
    p_value: float | None = None,
) -> Check:
    return Check(
        source="service",
        stream=stream,
        statistic=statistic,
        value=value,
        limit=limit,
        n=n,
        beyond=value > limit,
        p_value=p_value,
        problem=problem,
        insignificant="warning",
        significant=worst,
    )
