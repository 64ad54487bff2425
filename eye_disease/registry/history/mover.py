"""Moves a version between stages, its alias along with it, one at a time and on record.

MLflow offers two calls, each atomic: one moves the version into its stage and the one before it to Archived, the other moves
the alias. Between them a reader of the stage gets the new version and a reader of the alias the one before: never nothing,
never one that was not in Production. What a command that dies between them has begun, the next one recovers.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from mlflow import MlflowClient

from eye_disease.common.errors import TrackingUnavailableError
from eye_disease.registry.history.lock import Lock, locked
from eye_disease.registry.history.store import History
from eye_disease.registry.history.transition import Transition, recorded_state
from eye_disease.registry.versions import ALIASES, NO_STAGE, STAGES, RegistryState, StageError, explained, read_registry

ROLLED_BACK_TAG = "rolled_back"
FORCED_TAG = "forced"
_DELETED = "Deleted"


class Mover:
    """A model whose lock is held, whose history is complete."""

    def __init__(self, client: MlflowClient, history: History, lock: Lock) -> None:
        self._client = client
        self._lock = lock
        self.history = history
        self.name = history.name
        self.registry = read_registry(client, self.name)
        """Stages and aliases, before anything is moved."""
        self.records = history.records()

    def catch_up(self) -> None:
        """Recover what another command left undone, record what was moved in MLflow itself."""
        broken = [step for step in self.records if step.state == "begun"]
        for step in broken:
            self.recover(step, interrupted=True)
        if broken:
            self.registry, self.records = read_registry(self._client, self.name), self.history.records()
        for step in unrecorded(self.records, self.registry):
            self.history.close(self.history.begin(step, self.records), done=True)
            self.records = self.history.records()

    def move(self, step: Transition) -> Transition:
        """Make a step: record it, move stage and alias, close the record. Raises StageError if nothing has moved."""
        if step.target not in STAGES:
            raise StageError(f"stage={step.target!r} is not known. Expected one of {', '.join(STAGES)}.")
        self._lock.require_time()
        with explained(f"Recording it in the experiment {self.history.experiment}"):
            step = self.history.begin(step, self.records)
        try:
            with explained(f"Moving {self.name} version {step.version} to {step.target}"):
                _move_stage(self._client, self.name, step)
                return self._follow(step, self.registry)
        except (StageError, TrackingUnavailableError):
            with explained("Recording the outcome, which the next command will do,"):
                ended = self.recover(step)
            if ended.state == "done":  # the answer was lost, not the call
                return ended
            raise

    def recover(self, step: Transition, interrupted: bool = False) -> Transition:
        """Finish a step whose stage has moved, close one whose stage has not as undone."""
        if step.kind == "outside":
            return self.history.close(step, done=True)
        registry = read_registry(self._client, self.name)
        if registry.stages.get(step.version) == step.target:
            return self._follow(step, registry, interrupted)
        return self.history.close(step, done=False, recovered=interrupted)

    def _follow(self, step: Transition, registry: RegistryState, interrupted: bool = False) -> Transition:
        """All that comes after the stage; may be done twice. registry: read under this lock, so its aliases still stand."""
        own = ALIASES.get(step.target)
        if own:
            self._client.set_registered_model_alias(self.name, own, step.version)
        for alias, version in registry.aliases.items():
            if version == step.version and alias != own:
                self._client.delete_registered_model_alias(self.name, alias)
        self._tag(step)
        return self.history.close(step, done=True, recovered=interrupted)

    def _tag(self, step: Transition) -> None:
        note = f"{step.started:%Y-%m-%dT%H:%MZ}, transition {step.number} by {step.who}: {step.reason}"
        if step.kind == "rollback":
            for bad in step.replaced:
                self._client.set_model_version_tag(self.name, bad, ROLLED_BACK_TAG, note)
        if step.kind == "force":
            self._client.set_model_version_tag(self.name, step.version, FORCED_TAG, note)
        if step.kind in ("promote", "force") and step.target == "Production":
            outdated = (ROLLED_BACK_TAG, FORCED_TAG) if step.kind == "promote" else (ROLLED_BACK_TAG,)
            tags = self._client.get_model_version(self.name, step.version).tags
            for tag in [tag for tag in outdated if tag in tags]:
                self._client.delete_model_version_tag(self.name, step.version, tag)


@contextmanager
def moving(client: MlflowClient, name: str) -> Iterator[Mover]:
    """Inside, versions of a model can be moved. What another command left undone is recovered first, what was moved in MLflow's
    UI or API is recorded. The model must be known. Raises StageError; LockedError if somebody else is moving one.
    """
    with ExitStack() as stack:
        with explained(f"Locking {name}"):
            lock = stack.enter_context(locked(client, name))
        with explained(f"Bringing the history of {name} up to date"):
            mover = Mover(client, History(client, name), lock)
            mover.catch_up()
        yield mover


def unrecorded(records: list[Transition], registry: RegistryState) -> list[Transition]:
    """Steps made in MLflow itself: what the registry holds and the finished records do not add up to."""
    recorded = recorded_state(records)
    now = datetime.now(UTC)
    reason = "made in MLflow's UI or API" if recorded.stages else "found when this history began"
    step = Transition("", "", "", "outside", reason, who="unknown", started=now)
    steps = []
    for version in sorted(registry.stages.keys() | recorded.stages.keys(), key=int):
        before, after = recorded.stage(version), registry.stages.get(version, _DELETED)
        if before != after and not (before == NO_STAGE and after == _DELETED):
            steps.append(
                replace(step, version=version, source=before, target=after, started=registry.updated.get(version, now))
            )
    for alias in ALIASES.values():
        was, is_now = recorded.aliases.get(alias), registry.aliases.get(alias)
        if was != is_now:
            away = replace(step, version=was or "", source=f"@{alias}", target="")
            steps.append(away if is_now is None else replace(step, version=is_now, source="", target=f"@{alias}"))
    return steps


def _move_stage(client: MlflowClient, name: str, step: Transition) -> None:
    with warnings.catch_warnings():
        # Stages are deprecated in MLflow but are what this product's users work with; aliases go along for the day they end.
        warnings.filterwarnings("ignore", message=".*transition_model_version_stage.*", category=FutureWarning)
        client.transition_model_version_stage(name, step.version, step.target, archive_existing_versions=step.target in ALIASES)
