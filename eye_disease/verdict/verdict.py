"""Whether a window's answers can still be trusted, and why not."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from eye_disease.profiles.estimate import Estimate, estimate_performance
from eye_disease.profiles.profile import OTHER_SITES, Profile
from eye_disease.profiles.reference import Reference
from eye_disease.verdict.check import Check, assign_levels
from eye_disease.verdict.drift import Kind, embedding_checks, kind_of_shift, stream_checks
from eye_disease.verdict.lasting import LastingDrift, Recent, RecentWindow
from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.performance import performance_checks, promise_checks
from eye_disease.verdict.realised import RealisedPerformance
from eye_disease.verdict.rules import rule_checks
from eye_disease.verdict.service import Health, service_checks
from eye_disease.verdict.since import Since
from model_code.promise import Promise

Status = Literal["ok", "warning", "drift", "insufficient_data"]
_NO_WINDOWS = Recent()


@dataclass(frozen=True)
class Verdict:
    """Of one window of one model version."""

    status: Status
    n: int
    """Answers"""
    failed: int
    """Records with an error"""
    first: datetime | None
    last: datetime | None
    reference: str | None
    """Name of the reference; None: there was none, only rules and service are judged"""
    kind: Kind | None
    """Of the statistical drift, wherever it is; acquisition if both occur. None: no stream drifted"""
    sites: Mapping[str, Kind]
    """Sites with a drift of their own -> its kind"""
    checks: tuple[Check, ...]
    """Everything that was compared"""
    estimate: Estimate | None
    """Performance without labels; None without answers"""
    since: Since | None = None
    """When the statistical drift of the whole window has begun; None: there is none, or its beginning is not known"""

    @property
    def reasons(self) -> tuple[Check, ...]:
        """The checks that made the status: drift before warnings, the whole window before sites, it alone before it together
        with others, the worst first."""
        bad = [check for check in self.checks if check.level != "ok"]
        bad.sort(key=lambda check: (check.level != "drift", check.site is not None, check.source == "lasting", -check.excess))
        reasons: dict[tuple[str | None, ...], Check] = {}
        for check in bad:  # the newest window is judged twice: what both find is listed once
            source = "stream" if (check.source, check.windows) == ("lasting", 1) else check.source
            reasons.setdefault((source, check.site, check.stream, check.statistic), check)
        return tuple(reasons.values())

    @property
    def lasting(self) -> float | None:
        """What comes nearest to drift in the newest windows together, as a share of its limit; None: there was but one."""
        return max((check.value / check.limit for check in self.checks if check.source == "lasting"), default=None)

    def to_json(self) -> dict[str, Any]:
        """As JSON types; `reasons` as sentences."""
        times: dict[str, Any] = {
            name: moment and moment.isoformat() for name, moment in (("first", self.first), ("last", self.last))
        }
        times["since"] = self.since and self.since.to_json()
        return {**asdict(self), **times, "reasons": [str(check) for check in self.reasons]}


def judge(
    profile: Profile,
    reference: Reference | None,
    limits: DriftLimits,
    health: Health | None = None,
    missing_records: int = 0,
    realised: RealisedPerformance | None = None,
    promise: Promise | None = None,
    recent: Recent = _NO_WINDOWS,
    number: int = 1,
) -> Verdict:
    """The verdict on a window; its profile is made with `reference.layout`, or `Layout.generic` where there is no reference.

    health: of the probe, if there was one. missing_records: gaps in the sequence numbers. realised: what labels say.
    promise: what the version's package promises of reported answers; None: nothing. recent: the windows before this one, made
    with the same layout. number: of this window.

    The level `limits.alpha` is shared out, so that it holds for the verdict as a whole: half of it to the streams of the whole
    window (a permutation test of that family needs as much), a fifth to the tests that judge it together with the windows
    before, 15 % to the streams of all sites together, and 15 % to rules and performance.

    Raises ValueError if the profile was not made on the reference's layout.
    """
    if reference is not None and profile.layout != reference.layout:
        raise ValueError("The profile has other classes or edges than the reference: make it with `reference.layout`.")
    whole, alpha = profile.whole, limits.alpha
    checks = assign_levels(service_checks(profile, limits, health, missing_records), alpha)
    sites: dict[str, Kind] = {}
    kind: Kind | None = None
    since: Since | None = None
    enough = whole.answered >= limits.min_predictions
    if enough:
        answers = [*rule_checks(profile, reference, limits), *performance_checks(profile, reference, limits, realised)]
        checks += assign_levels([*answers, *promise_checks(promise, realised)], 0.15 * alpha)
    if enough and reference is not None:
        streams = stream_checks(whole, reference, limits) + embedding_checks(profile.sample, reference, limits)
        by_site = assign_levels(_site_checks(profile, reference, limits), 0.15 * alpha)
        streams = assign_levels(streams, alpha / 2)
        drifted = {check.site for check in by_site if check.level == "drift" and check.site is not None}
        sites = {site: kind_of_shift(profile.sites[site], reference, limits) for site in sorted(drifted)}
        windows = (*recent.windows, RecentWindow(number, whole))
        lasting = LastingDrift(reference, limits)
        together = lasting.judge(windows)
        since = together.since
        if any(check.level == "drift" for check in streams):
            kind = kind_of_shift(whole, reference, limits)
            since = since or lasting.since(windows)
        elif together.merged is not None:
            kind = kind_of_shift(together.merged, reference, limits)
        since = since and since.carried(recent.since)
        kind = "acquisition" if "acquisition" in sites.values() else kind or next(iter(sites.values()), None)
        checks += [*streams, *together.checks, *by_site]
    return Verdict(
        status=_status(checks, enough),
        n=whole.answered,
        failed=whole.failed,
        first=whole.first,
        last=whole.last,
        reference=reference.name if reference else None,
        kind=kind,
        sites=sites,
        checks=tuple(checks),
        estimate=estimate_performance(profile),
        since=since,
    )


def _site_checks(profile: Profile, reference: Reference, limits: DriftLimits) -> list[Check]:
    """Of every site with enough answers; a single site is the whole window, which is judged already."""
    named = {site: tally for site, tally in profile.sites.items() if site != OTHER_SITES}
    if len(profile.sites) < 2:
        return []
    return [check for site, tally in named.items() for check in stream_checks(tally, reference, limits, site)]


def _status(checks: list[Check], enough: bool) -> Status:
    levels = {check.level for check in checks}
    if "drift" in levels:  # of the service, if there are too few answers for anything else
        return "drift"
    if not enough:
        return "insufficient_data"
    return "warning" if "warning" in levels else "ok"
