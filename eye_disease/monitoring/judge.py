"""Judges one version's open window."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from eye_disease.common.text import clean
from eye_disease.monitoring.action_rules import Request
from eye_disease.monitoring.alarm import is_due
from eye_disease.monitoring.judged_window import Findings
from eye_disease.monitoring.publish import make_alert
from eye_disease.monitoring.version_state import KEPT_WINDOWS, PastWindow, VersionMemory
from eye_disease.monitoring.window import Window
from eye_disease.profiles.reference import Reference
from eye_disease.records.labels import LabelBook
from eye_disease.records.store import StoreSnapshot
from eye_disease.verdict.lasting import MAX_WINDOWS, Recent, RecentWindow
from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.realised import RealisedPerformance, join
from eye_disease.verdict.service import Health
from eye_disease.verdict.verdict import Verdict, judge
from model_code.promise import Promise

_NO_WINDOWS = Recent()
_LABELS_OF = timedelta(days=30)
"""Predictions whose labels tell of the present: labels come days later, and old ones tell of old photos."""


def is_silent(memory: VersionMemory, health: Health | None) -> bool:
    """Whether a window without predictions needs no report: that a version is silent is reported once."""
    return memory.status in (None, "insufficient_data") and (health is None or health.up)


def is_ready(window: Window, memory: VersionMemory, health: Health | None, now: datetime, limits: DriftLimits) -> bool:
    """Whether the window is judged now. A server that is down is not waited for: nothing may come any more."""
    if health is not None and not health.up:
        return True
    if window.predictions == 0 and is_silent(memory, health):
        return False
    starts = [moment for moment in (window.profile.whole.first, memory.judged) if moment is not None]
    return is_due(window.profile, max(starts), now, limits)


def realised_performance(snapshot: StoreSnapshot, now: datetime) -> RealisedPerformance | None:
    """What labels say of the version's latest predictions; None without labels. Raises OSError, StoreError."""
    labels = LabelBook(snapshot.store.storage, snapshot.store.model).read()
    return join(labels, [snapshot], start=now - _LABELS_OF).versions.get(snapshot.store.version)


@dataclass(frozen=True)
class WindowJudgement:
    """Of a window, with what is to be remembered once its results are safe."""

    findings: Findings
    memory: VersionMemory
    recent: Recent


def judge_window(
    snapshot: StoreSnapshot,
    window: Window,
    memory: VersionMemory,
    reference: Reference | None,
    health: Health | None,
    now: datetime,
    limits: DriftLimits,
    promise: Promise | None = None,
    recent: Recent = _NO_WINDOWS,
) -> WindowJudgement:
    """window: all records that `snapshot` has since `memory`. promise: of the version's package. recent: the windows
    before, on the same layout. Raises OSError, StoreError."""
    store, state = snapshot.store, snapshot.state
    realised = realised_performance(snapshot, now)
    missing = max(state.missing - memory.missing, 0)  # a late segment fills a gap of an earlier window
    number = memory.windows + 1
    verdict = judge(window.profile, reference, limits, health, missing, realised, promise, recent, number)
    alarm, event = memory.alarm.after(verdict.status, limits)
    grounds, due = memory.grounds.after(verdict, health, store.version, alarm.raised, limits)
    past = PastWindow.of(number, verdict, window.profile.whole.mean_confidence, now)
    findings = Findings(
        model=store.model,
        version=store.version,
        number=number,
        judged=now,
        verdict=verdict,
        profile=window.profile,
        reference=reference,
        alarm=alarm,
        event=event,
        realised=realised,
        health=health,
        load_time_seconds=window.load_time_seconds,
        promise=promise,
        history=(*memory.history, past)[-KEPT_WINDOWS:],
        notes=_notes(store.version, window, reference),
    )
    judged = VersionMemory(
        commit=state.commit,
        records=state.records,
        predictions=memory.predictions + window.predictions,
        missing=state.missing,
        windows=number,
        judged=now,
        alarm=alarm,
        alert=make_alert(findings),
        grounds=grounds,
        due=tuple(Request(step, store.model, store.version, number, reason) for step, reason in due.items()),
        sites=tuple(verdict.sites),
        history=findings.history,
    )
    return WindowJudgement(findings, judged, _with(recent, number, window, verdict))


def _with(recent: Recent, number: int, window: Window, verdict: Verdict) -> Recent:
    """What the next window is judged together with; a window without answers says nothing, but ends what it does not show."""
    whole = window.profile.whole
    windows = (*recent.windows, RecentWindow(number, whole)) if whole.answered else recent.windows
    since = recent.since if verdict.status == "insufficient_data" else verdict.since
    return Recent(windows[-MAX_WINDOWS:], since)


def _notes(version: str, window: Window, reference: Reference | None) -> tuple[str, ...]:
    notes = []
    if reference is None:
        notes.append(f"No reference came with version {clean(version)}: only rules and service are checked; drift is not.")
    elif reference.name.startswith("window:"):
        notes.append(
            f"Judged against production data, {clean(reference.name)}, not against the reference of the model's package."
        )
    if window.every > 1:
        notes.append(
            f"Of {window.predictions:,} predictions one in {window.every:,} is logged individually in MLflow; "
            "all of them are in the figures of the window."
        )
    return tuple(notes)
