"""Promotion and roll back: which version may go to which stage."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NoReturn

from mlflow import MlflowClient

from eye_disease.registry.gate.settings import GateSettings
from eye_disease.registry.history.mover import Mover, moving
from eye_disease.registry.history.transition import Transition, finished
from eye_disease.registry.versions import ALIASES, NO_STAGE, STAGES, FetchedVersion, RegistryState, StageError, read_registry

if TYPE_CHECKING:  # imported where it is needed: with its plots it takes seconds, and a rollback is urgent
    from eye_disease.registry.gate.gate import GateResult


class RefusedError(StageError):
    """The gate refused the version for Production."""


@dataclass(frozen=True)
class _Passage:
    """What the gate said of a version on its way to Production."""

    champion: str | None
    evidence: str = ""
    refusals: tuple[str, ...] = ()


def promote(
    name: str,
    version: str,
    stage: str,
    *,
    reason: str = "",
    labelled: Path | None = None,
    force: bool = False,
    judged: "GateResult | None" = None,
) -> Transition | None:
    """Move a version to a stage and the alias with it; returns what was recorded, None if it is there already.

    The version that was in Staging or Production before goes to Archived. Production is behind the gate: `labelled` are its
    photos, `judged` what it has found already; `force` goes on although it refuses, and needs a `reason`. Raises StageError,
    RefusedError (the version then stays in Staging, or goes there from no stage if Staging is free), GateError where the gate
    cannot judge.
    """
    version = str(version)
    if stage not in STAGES:
        raise StageError(f"stage={stage!r} is not known. Expected one of {', '.join(STAGES)}.")
    if force and not reason.strip():
        raise StageError("Forcing a version past the gate needs a reason, which is kept in the history.")
    client = MlflowClient()
    registry = _require(read_registry(client, name), name, version)
    if _is_there(registry, version, stage):
        return None
    with ExitStack() as stack:
        digest, passage = "", None
        if stage in ALIASES:
            fetched = FetchedVersion.fetch(name, version, Path(stack.enter_context(TemporaryDirectory())))
            digest = fetched.files_sha256
            if stage == "Production":
                passage = _pass_gate(fetched, registry, labelled, force, judged)
        if passage is not None and passage.refusals and not force:
            _refuse(client, name, version, digest, passage)
        mover = stack.enter_context(moving(client, name))
        registry = _require(mover.registry, name, version)
        if passage is not None:
            _require_champion(name, passage.champion, mover)
        _require_same_files(name, version, digest, mover.records)
        kind = "archive" if stage == "Archived" else "promote"
        if passage is not None and passage.refusals:
            kind, reason = "force", f"{reason} (the gate refused: {'; '.join(passage.refusals)})"
        evidence = passage.evidence if passage else ""
        return mover.move(_step(registry, version, stage, kind, reason, evidence=evidence, digest=digest))


def rollback(name: str, reason: str = "", only: str | None = None) -> Transition:
    """Put the last Production version that was not rolled back into Production again; the one there now goes to Archived.

    No gate is run: this is the way out when something is wrong, to a version that has been in Production. `only`: roll back
    only if this version is in Production. Raises StageError if it is not, or if there is nothing to go back to.
    """
    client = MlflowClient()
    read_registry(client, name)  # an unknown model is refused before a lock is made
    with moving(client, name) as mover:
        registry = mover.registry
        current = registry.holder("Production")
        if current is None:
            raise StageError(
                f"No version of {name} is in Production, so there is nothing to roll back. Promote a version first."
            )
        if registry.aliases.get(ALIASES["Production"]) != current:
            raise StageError(
                f"What is in Production is not clear ({'; '.join(registry.disagreements())}). Promote the right one."
            )
        if only is not None and current != str(only):
            raise StageError(f"{name} version {current} is in Production, not version {only}. Nothing was rolled back.")
        target = last_good(mover.records, registry, current)
        if target is None:
            raise StageError(
                f"{name} version {current} is in Production and there is nothing to go back to: no other version has been "
                "there that was not rolled back itself. Promote a version, or take this one out: register.py promote "
                f"--version {current} --stage Archived."
            )
        with TemporaryDirectory() as folder:
            digest = FetchedVersion.fetch(name, target, Path(folder)).files_sha256
        _require_same_files(name, target, digest, mover.records)
        return mover.move(_step(registry, target, "Production", "rollback", reason, digest=digest))


def last_good(records: list[Transition], registry: RegistryState, current: str) -> str | None:
    """The version that was last in Production, is not `current`, still exists, and was not rolled back since it came there."""
    champions: list[str] = []
    bad: set[str] = set()
    for step in finished(records):
        if step.target != "Production":
            continue
        if step.kind == "rollback":
            bad |= set(step.replaced)
        bad.discard(step.version)
        champions.append(step.version)
    return next(
        (
            version
            for version in reversed(champions)
            if version != current and version not in bad and version in registry.stages
        ),
        None,
    )


def _pass_gate(
    fetched: FetchedVersion, registry: RegistryState, labelled: Path | None, force: bool, judged: "GateResult | None"
) -> _Passage:
    from eye_disease.registry.gate.gate import GateError, validate_fetched

    if judged is None:
        try:
            judged = validate_fetched(fetched, registry, labelled, GateSettings.from_env())
        except GateError as error:
            if not force:
                raise
            return _Passage(registry.holder("Production"), refusals=(f"it could not judge: {error}",))
    if judged.version != fetched.version:
        raise StageError(f"The gate has judged version {judged.version} of {fetched.name}, not version {fetched.version}.")
    return _Passage(judged.champion, judged.evidence_run_id, () if judged.passed else judged.reasons)


def _refuse(client: MlflowClient, name: str, version: str, digest: str, passage: _Passage) -> NoReturn:
    why = "; ".join(passage.refusals)
    with moving(client, name) as mover:
        registry = _require(mover.registry, name, version)
        if registry.stages[version] == NO_STAGE and registry.holder("Staging") is None:
            step = _step(registry, version, "Staging", "promote", f"refused for Production: {why}", passage.evidence, digest)
            stays = mover.move(step).target
        else:
            stays = registry.stages[version]
    raise RefusedError(
        f"{name} version {version} was refused for Production and stays in {stays}: {why}. "
        f"Evidence: run {passage.evidence}. To promote it all the same: --force --reason TEXT."
    )


def _require(registry: RegistryState, name: str, version: str) -> RegistryState:
    if version not in registry.stages:
        raise StageError(f"{name} has no version {version} in this registry.")
    return registry


def _require_champion(name: str, judged_against: str | None, mover: Mover) -> None:
    now = mover.registry.holder("Production")
    if now == judged_against:
        return
    latest = next((step for step in reversed(mover.records) if step.target == "Production"), None)
    by = f" ({latest.who}, {latest.started:%Y-%m-%d %H:%M:%SZ})" if latest and latest.version == now else ""
    raise StageError(
        f"Production of {name} changed from version {judged_against or 'none'} to {now or 'none'} in the meantime{by}. "
        "The version was judged against the former one: validate and promote again."
    )


def _require_same_files(name: str, version: str, digest: str, records: list[Transition]) -> None:
    if not digest:
        return
    earlier = [step for step in records if step.version == version and step.digest]
    if earlier and earlier[-1].digest != digest:
        raise StageError(
            f"The files of {name} version {version} are not those of transition {earlier[-1].number} "
            f"(SHA-256 {digest[:12]}, then: {earlier[-1].digest[:12]}). They were changed after that: register the model again."
        )


def _is_there(registry: RegistryState, version: str, stage: str) -> bool:
    return registry.stages[version] == stage and (
        stage not in ALIASES or registry.aliases.get(ALIASES[stage]) == version == registry.holder(stage)
    )


def _step(
    registry: RegistryState, version: str, stage: str, kind: str, reason: str, evidence: str = "", digest: str = ""
) -> Transition:
    holders = [other for other, its_stage in registry.stages.items() if its_stage == stage and other != version]
    return Transition(
        version,
        registry.stages[version],
        stage,
        kind,
        reason,
        replaced=tuple(sorted(holders, key=int)) if stage in ALIASES else (),
        evidence=evidence,
        digest=digest,
    )
