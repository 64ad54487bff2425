"""Whether the service itself is well: errors, latency, its health probe, lost records."""

from dataclasses import dataclass

from scipy.stats import binom

from monitoring.checks import Check
from monitoring.limits import DriftLimits
from profiles.profile import Profile


@dataclass(frozen=True)
class ServiceFacts:
    """What a window's records cannot tell."""

    healthy: bool | None = None
    """Result of the health probe; None: not probed"""
    problem: str = ""
    """What was wrong with the probe"""
    missing_records: int = 0
    """Gaps in the sequence numbers of the processes"""


def service_checks(profile: Profile, limits: DriftLimits, facts: ServiceFacts) -> list[Check]:
    """Error share, 99th percentile of the latency, lost records, probe; those there is something to say of."""
    whole = profile.whole
    n = whole.answered + whole.failed
    checks = []
    if n:
        share = whole.failed / n
        codes = ", ".join(f"{count} {code}" for code, count in sorted(whole.errors.items(), key=lambda one: -one[1])[:3])
        # Exact binomial test that the true share is above the limit: three errors in a small window are not yet a trend.
        p_value = float(binom.sf(whole.failed - 1, n, limits.max_error_share))
        checks.append(_check("error_code", "share", share, limits.max_error_share, n, "drift", codes, p_value))
    if (p99 := whole.latency_quantile(0.99)) is not None:
        checks.append(_check("inference_time_ms", "p99_latency", p99, limits.max_p99_ms, whole.answered, "warning"))
    if lost := max(profile.lost, facts.missing_records):  # a gap includes what its process has reported as lost
        total = n + lost
        problem = f"{lost} records lost: the log could not be written, or files are missing"
        checks.append(_check("sequence", "lost_share", lost / total, limits.max_lost_share, total, "warning", problem))
    if facts.healthy is not None:
        checks.append(_check("probe", "failures", float(not facts.healthy), 0.0, 1, "drift", facts.problem))
    return checks


def _check(
    stream: str,
    statistic: str,
    value: float,
    limit: float,
    n: int,
    worst: str,
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
