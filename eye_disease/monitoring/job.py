"""One run of the drift job: takes the log in, judges every version's new window, tells MLflow and people.

A window is dealt with at the moment its version's memory is saved. A run killed before that is repeated by the next one; after
that, results wait in the spool and an alert in the memory, where the next run finds them.
"""

import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from eye_disease.common.errors import TrackingUnavailableError
from eye_disease.common.lock import only_run
from eye_disease.common.secrets import hide_secrets
from eye_disease.common.text import clean, one_line
from eye_disease.monitoring.actions import Actions, commands
from eye_disease.monitoring.alerts import AlertOutbox
from eye_disease.monitoring.judge import is_ready, is_silent, judge_window
from eye_disease.monitoring.judged_window import Findings
from eye_disease.monitoring.mlflow_writer import MlflowWriter
from eye_disease.monitoring.package_cache import NoPromiseError, Packages, read_promise
from eye_disease.monitoring.probe import probe_served
from eye_disease.monitoring.publish import action_alert, action_batch, batch_id, make_batch, points
from eye_disease.monitoring.recent_windows import RecentWindows
from eye_disease.monitoring.references import NoReferenceError, ProductionWindow, References
from eye_disease.monitoring.report import make_report
from eye_disease.monitoring.settings import MonitoringSettings
from eye_disease.monitoring.spool import Spool
from eye_disease.monitoring.version_state import Memories, VersionMemory
from eye_disease.monitoring.window import read_window
from eye_disease.profiles.layout import Layout
from eye_disease.records.copied_logs import original_of
from eye_disease.records.ingest import ingest
from eye_disease.records.state_file import StateFileError
from eye_disease.records.storage import Storage
from eye_disease.records.store import RecordStore, StoreError, find_stores, warn_once
from eye_disease.registry.versions import version_in_production
from eye_disease.verdict.lasting import Recent
from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.service import Health
from model_code.promise import Promise

_logger = logging.getLogger(__name__)
_SEND_SECONDS = 300.0
"""How long one run may take to send what waits; the rest goes out with the next."""
_SHOWN_REASONS = 5
Version = tuple[str, str]
"""(model, version)"""


@dataclass(frozen=True)
class Outcome:
    """What a run has done for one version."""

    model: str
    version: str
    findings: Findings | None
    """None: no window was judged"""
    why_not: str = ""
    """A sentence"""
    failed: bool = False
    """No window will be judged before somebody acts"""
    actions: tuple[str, ...] = ()
    """What was started because of this version, and what came of it"""

    def __str__(self) -> str:
        return "\n".join([self._judged(), *(f"  {action}" for action in self.actions)])

    def _judged(self) -> str:
        name = f"{clean(self.model)} version {clean(self.version)}"
        if self.findings is None:
            return f"{name}: {'NOT JUDGED' if self.failed else 'waiting'}. {one_line(hide_secrets(self.why_not))}"
        verdict = self.findings.verdict
        headline = f"{name}: {verdict.status} ({self.findings.span}). {self.findings.problem} {self.findings.action}"
        reasons = [f"  {check.level}: {check}" for check in verdict.reasons[:_SHOWN_REASONS]]
        return "\n".join([headline, *reasons, *(f"  note: {note}" for note in self.findings.notes)])


class DriftJob:
    """What runs share. Raises SettingError for an alert URL of an unknown kind, StorageError for such a log."""

    def __init__(
        self,
        settings: MonitoringSettings,
        limits: DriftLimits,
        make_writer: Callable[[], MlflowWriter],
        keep_days: int | None = None,
        reference: ProductionWindow | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """reference: what is taken in the place of each version's own."""
        state = settings.state_dir
        self._settings, self._limits, self._make_writer = settings, limits, make_writer
        self._keep_days, self._now = keep_days, now
        self._storage = Storage(settings.inference_log)
        self._packages = Packages(state / "packages", settings.mlflow_timeout_seconds)
        self._references = References(state / "references", self._packages, reference)
        self._memories = Memories(state)
        self._recent = RecentWindows(state)
        self._spool = Spool(state / "spool")
        self._outbox = AlertOutbox(state / "alerts", settings.alert_urls)
        self._actions = Actions(
            state / "actions",
            commands(settings.on_raise, settings.auto_rollback),
            partial(version_in_production, timeout_seconds=settings.mlflow_timeout_seconds),
        )

    @property
    def log(self) -> str:
        """Where it looks for records."""
        return self._storage.location

    def run(self) -> list[Outcome]:
        """Judge what is due. Raises BusyError; OSError where the log or MONITORING_DIR as a whole cannot be used."""
        url = self._settings.health_url
        with only_run(self._settings.state_dir):
            stores = find_stores(self._storage)
            memories, outcomes = self._remembered(stores)
            self._hand_over(memories)  # of a run that was killed
            probed = probe_served(url, self._storage, self._packages) if url else None
            for store in stores:
                version = store.model, store.version
                if version in memories:
                    health = probed[1] if probed is not None and probed[0] == version else None
                    outcomes[version], memories[version] = self._judge(store, memories[version], health)
            self._hand_over(memories)
            acted = self._act(memories)  # before sending, which may take minutes where the tracking server is slow
            if self._settings.tracking_enabled and self._spool.waiting():
                self._spool.send(self._make_writer(), _SEND_SECONDS)
            self._outbox.deliver(self._now())
        return [replace(outcome, actions=acted[outcome.model, outcome.version]) for outcome in outcomes.values()]

    def _remembered(self, stores: list[RecordStore]) -> tuple[dict[Version, VersionMemory], dict[Version, Outcome]]:
        """By version, what is remembered of it; and what is to be said of those whose file cannot be read.

        Folders whose records are those of another one beside them are left out: somebody has copied them.
        """
        known = {(store.model, store.version) for store in stores}
        memories: dict[Version, VersionMemory] = {}
        outcomes: dict[Version, Outcome] = {}
        for store in stores:
            try:
                memory = self._memories.read(store.model, store.version)
                original = (store.model, store.version) if memory.windows else original_of(store)
            except StateFileError as error:
                outcomes[store.model, store.version] = _failed(store, error)
                continue
            if original != (store.model, store.version) and original in known:
                warn_once(self._storage, store.folder, f"is a copy of {'/'.join(original)}, and is left out")
            else:
                memories[store.model, store.version] = memory
        return memories, outcomes

    def _judge(self, store: RecordStore, memory: VersionMemory, health: Health | None) -> tuple[Outcome, VersionMemory]:
        """What was done, and what is remembered from now on. health: of the served model, if it is this version."""
        try:
            return self._judge_open_window(store, memory, health)
        except TrackingUnavailableError as error:
            _logger.warning("%s version %s is skipped for now: its reference cannot be fetched: %s", *_name(store), error)
            return Outcome(store.model, store.version, None, f"Its reference cannot be fetched yet: {error}"), memory
        except (StoreError, StateFileError, NoReferenceError, NoPromiseError, OSError) as error:
            return _failed(store, error), memory

    def _judge_open_window(
        self, store: RecordStore, memory: VersionMemory, health: Health | None
    ) -> tuple[Outcome, VersionMemory]:
        self._spool.discard(batch_id(store.model, store.version, memory.windows + 1))
        ingest(store, self._now(), self._keep_days, memory.commit)
        snapshot = store.snapshot()
        if snapshot.state.records == memory.records and is_silent(memory, health):
            return Outcome(store.model, store.version, None, "No predictions since the last window."), memory
        reference = self._references.find(snapshot, self._now()) if snapshot.state.records else None
        promise = self._promise(store) if snapshot.state.records else None
        layout = reference.layout if reference else Layout.generic(snapshot.classes)
        window = read_window(snapshot, memory.commit, layout, snapshot.count(memory.commit))
        if not is_ready(window, memory, health, self._now(), self._limits):
            why = f"{window.predictions} of the {self._limits.min_predictions} predictions that a window needs."
            return Outcome(store.model, store.version, None, why), memory
        recent = self._recent.read(store.model, store.version, layout, memory.windows) if reference else Recent()
        judgement = judge_window(snapshot, window, memory, reference, health, self._now(), self._limits, promise, recent)
        findings = judgement.findings
        if self._settings.tracking_enabled:
            self._spool.put(make_batch(findings), points(findings, window, memory.predictions), make_report(findings))
        if reference:  # before the memory: a run killed here judges the window again, and what is kept of it is not used
            self._recent.save(store.model, store.version, layout, judgement.recent)
        self._memories.save(store.model, store.version, judgement.memory)
        return Outcome(store.model, store.version, findings), judgement.memory

    def _promise(self, store: RecordStore) -> Promise | None:
        """Not known for now where a reference of production data is used and the registry is down: that stops no judgement."""
        try:
            try:
                return read_promise(self._packages, store)
            except NoPromiseError as error:
                again = None
                if self._packages.set_aside(store.model, store.version, str(error)):
                    again = read_promise(self._packages, store)  # as the registry gives it now
                if again is None:
                    raise
                return again
        except TrackingUnavailableError as error:
            _logger.warning("What %s version %s promises cannot be read now: %s", store.model, store.version, error)
            return None

    def _hand_over(self, memories: dict[Version, VersionMemory]) -> None:
        """Alerts and requests, from the versions' memories to those who take each once."""
        for (model, version), memory in memories.items():
            for request in memory.due:
                self._actions.ask(request)
            if memory.alert is not None:
                tracked = self._settings.tracking_enabled and bool(self._settings.alert_urls)
                page = self._make_writer().run_page(model, version) if tracked else None
                self._outbox.put(replace(memory.alert, report_url=page), self._now())
            if memory.alert is not None or memory.due:
                memories[model, version] = replace(memory, alert=None, due=())
                self._memories.save(model, version, memories[model, version])

    def _act(self, memories: dict[Version, VersionMemory]) -> dict[Version, tuple[str, ...]]:
        """Start what was asked for, see what has ended; version -> what to say of it."""
        sentences: dict[Version, tuple[str, ...]] = defaultdict(tuple)
        for outcome in self._actions.advance(partial(self._is_raised, memories)):
            if self._settings.tracking_enabled:
                self._spool.put(action_batch(outcome, self._now()), (), {})
            if alert := action_alert(outcome):
                self._outbox.put(alert, self._now())
            self._actions.close(outcome)
            sentences[outcome.request.model, outcome.request.version] += (str(outcome),)
        return sentences

    def _is_raised(self, memories: dict[Version, VersionMemory], model: str, version: str) -> bool:
        """Whether an alarm is; of a version whose memory cannot be read nothing has cleared the one that was."""
        if (model, version) in memories:
            return memories[model, version].alarm.raised
        try:
            return self._memories.read(model, version).alarm.raised
        except StateFileError:
            return True


def _failed(store: RecordStore, error: Exception) -> Outcome:
    _logger.error("%s version %s is not judged: %s", *_name(store), error)
    return Outcome(store.model, store.version, None, str(error), failed=True)


def _name(store: RecordStore) -> tuple[str, str]:
    """Model and version as a person may read them."""
    return clean(store.model), clean(store.version)
