"""Two versions of a model side by side: what they answered, how they agree, who was right, and whether to change over."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from eye_disease.common.errors import UserError
from eye_disease.common.lock import only_run
from eye_disease.comparison.decision import CompareLimits, Decision, decide
from eye_disease.comparison.photo_answers import PhotoAnswers, read_photo_answers
from eye_disease.evaluation.multiple import holm
from eye_disease.evaluation.paired import Outcomes
from eye_disease.evaluation.shares import Share
from eye_disease.monitoring.settings import MonitoringSettings
from eye_disease.monitoring.version_state import Memories
from eye_disease.profiles.columns import column, counts, time_range
from eye_disease.profiles.distances import ks_distance, ks_p_value
from eye_disease.profiles.layout import Layout
from eye_disease.profiles.profile import Profile, profile_columns
from eye_disease.records.ingest import ingest
from eye_disease.records.labels import LabelBook
from eye_disease.records.storage import Storage
from eye_disease.records.store import RecordStore, find_stores
from eye_disease.verdict.check import assign_levels
from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.realised import RealisedPerformance, performance_of
from eye_disease.verdict.rules import rule_checks
from eye_disease.verdict.service import service_checks
from model_code.quality import STATISTICS

_BEHIND = timedelta(minutes=1)
"""A shadow's record may be this much later than the champion's of the same request."""


class CompareError(UserError):
    """Versions that cannot be compared; the message says why."""


@dataclass(frozen=True)
class Side:
    """One of the two versions."""

    version: str
    roles: dict[str, int]
    """Role -> records that say so; records of older releases say none"""
    profile: Profile
    """Of the time in which both served"""
    realised: RealisedPerformance
    """On the labelled photos that are compared"""


@dataclass(frozen=True)
class Comparison:
    """What `drift_job.py compare` reports."""

    model: str
    champion: Side
    challenger: Side
    start: datetime
    end: datetime
    """The time in which both served"""
    agreement: Share | None
    """Photos that both answered with the same class, of those that both answered; None without such photos"""
    outcomes: Outcomes
    """The labelled photos that the decision rests on"""
    decision: Decision
    notes: tuple[str, ...]
    """What a reader must know to take the figures for what they are, a sentence each"""
    made: datetime


def compare(
    settings: MonitoringSettings,
    drift_limits: DriftLimits,
    limits: CompareLimits,
    model: str,
    champion: str,
    challenger: str,
    now: datetime,
) -> Comparison:
    """Take new records in and compare two versions. Raises CompareError, BusyError, StoreError, OSError."""
    storage = Storage(settings.inference_log)
    with only_run(settings.state_dir):
        stores = _stores(storage, model, (champion, challenger), now)
    start, end = _served_together(stores)
    sides = [_profile(store, start, end) for store in stores]
    answers = read_photo_answers(stores[0], stores[1], LabelBook(storage, model).read(), start, end)
    unalike = _unalike(sides[0][0], sides[1][0], drift_limits)
    notes = [f"The two had different photos ({unalike}): only those that both had are evidence."] if unalike else []

    def outcomes(label: str | None = None) -> Outcomes:
        every = answers.outcomes(label)
        return every.paired_only() if unalike else every

    memory = Memories(settings.state_dir).read(model, challenger)
    objections = _objections(sides[1][0], drift_limits)
    if memory.alarm.raised:
        objections.insert(0, f"The drift job's alarm on version {challenger} is raised.")
    if memory.status is None:
        notes.append(f"The drift job has not judged version {challenger} yet.")
    return Comparison(
        model=model,
        champion=Side(champion, sides[0][1], sides[0][0], performance_of(answers.labelled("champion"))),
        challenger=Side(challenger, sides[1][1], sides[1][0], performance_of(answers.labelled("challenger"))),
        start=start,
        end=end,
        agreement=_agreement(answers),
        outcomes=outcomes(),
        decision=decide(outcomes(), {name: outcomes(name) for name in stores[0].state().classes}, objections, limits),
        notes=tuple(notes),
        made=now,
    )


def _stores(storage: Storage, model: str, versions: tuple[str, str], now: datetime) -> list[RecordStore]:
    """Of the two versions, with all that the log holds taken in."""
    if versions[0] == versions[1]:
        raise CompareError(f"Version {versions[0]} cannot be compared with itself. Expected two versions.")
    by_version = {store.version: store for store in find_stores(storage) if store.model == model}
    for version in versions:
        if version not in by_version or ingest(by_version[version], now).after.records == 0:
            present = ", ".join(by_version) or "no version"
            raise CompareError(f"{storage.location} has no records of {model} version {version}; it has some of {present}.")
    stores = [by_version[version] for version in versions]
    classes = [store.state().classes for store in stores]
    if classes[0] != classes[1]:
        raise CompareError(f"The versions have different classes: {', '.join(classes[0])} and {', '.join(classes[1])}.")
    return stores


def _served_together(stores: list[RecordStore]) -> tuple[datetime, datetime]:
    """From when the later one has answered to when the first one has stopped; empty if they never served together."""
    spans = []
    for store in stores:
        ranges = [time_range(batch) for batch in store.read_batches(["timestamp"])]
        times = [time for both in ranges for time in both if time is not None]
        if not times:
            raise CompareError(f"{store.model} version {store.version} has no records left but the health probe's.")
        spans.append((min(times), max(times)))
    return max(first for first, _ in spans) - _BEHIND, min(last for _, last in spans) + _BEHIND


def _profile(store: RecordStore, start: datetime, end: datetime) -> tuple[Profile, dict[str, int]]:
    """With the number of records of each role."""
    layout = Layout.generic(store.state().classes)
    present = set(store.columns())
    names = [name for name in profile_columns(layout) if name in present]
    profile, roles = Profile.empty(layout), Counter[str]()
    for batch in store.read_batches([*names, "role"], start=start, end=end):
        profile = profile.merge(Profile.from_table(batch, layout))
        roles.update(counts(column(batch, "role", pa.string())))
    return profile, dict(roles)


def _unalike(champion: Profile, challenger: Profile, limits: DriftLimits) -> str:
    """How the photos differ that the two have had, in figures that no version has a part in; empty if they do not."""
    ours, theirs = champion.counts(champion.whole), challenger.counts(challenger.whole)
    tested = [name for name in STATISTICS if ours[name].any() and theirs[name].any()]
    distances = [float(ks_distance(theirs[name], ours[name])) for name in tested]
    sizes = [(int(theirs[name].sum()), int(ours[name].sum())) for name in tested]
    p_values = [ks_p_value(distance, *size) for distance, size in zip(distances, sizes, strict=True)]
    differences = [
        f"{name}: KS distance {distance:.2f}"
        for name, distance, p_value in zip(tested, distances, holm(p_values), strict=True)
        if p_value <= limits.alpha and distance > limits.min_ks
    ]
    return ", ".join(differences)


def _objections(profile: Profile, limits: DriftLimits) -> list[str]:
    """Errors, losses and latency of the challenger that are worse than the drift job's limits."""
    latency = [check for check in rule_checks(profile, None, limits) if check.stream == "inference_time_ms"]
    checks = assign_levels([*service_checks(profile, limits, None, 0), *latency], limits.alpha)
    return [f"The challenger's service is beyond a limit: {check}." for check in checks if check.level != "ok"]


def _agreement(answers: PhotoAnswers) -> Share | None:
    same = answers.agreement
    return Share.of(same) if np.size(same) else None
