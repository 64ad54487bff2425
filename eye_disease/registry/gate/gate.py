"""The gate before Production: a version is served, tested and judged; the evidence stays in MLflow."""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from eye_disease.common.errors import UserError
from eye_disease.common.progress import Progress
from eye_disease.evaluation.manifest import DataError
from eye_disease.registry.gate.checks import GateCheck
from eye_disease.registry.gate.evidence import MAX_TAG, evidence_run, log_evidence
from eye_disease.registry.gate.judge import GateJudgement, comparable, judge_by_package, judge_by_photos
from eye_disease.registry.gate.labelled_photos import LabelledPhotos, read_labelled
from eye_disease.registry.gate.serving_checks import agreement, loads, served_checks
from eye_disease.registry.gate.settings import GateSettings
from eye_disease.registry.gate.trial_server import Trial, TrialError, on_trial
from eye_disease.registry.model_card import publish_card
from eye_disease.registry.versions import FetchedVersion, RegistryState, StageError, VersionError, read_registry


@dataclass(frozen=True)
class GateResult:
    """What the gate found."""

    version: str
    """The one that was judged."""
    passed: bool
    reasons: tuple[str, ...]
    """Why the version is refused, a sentence each; empty if it passed."""
    evidence_run_id: str
    """MLflow run with figures, plots and every check."""
    champion: str | None
    """The version that was in Production when this one was judged; None if there was none."""
    basis: str = ""
    """What the figures rest on."""
    checks: tuple[GateCheck, ...] = ()


class GateError(UserError):
    """The gate cannot judge: the version, the labelled photos or a setting is not what it should be."""


def validate(name: str, version: str, labelled: Path | None, settings: GateSettings) -> GateResult:
    """Judge a registered version; logs the evidence, tags the version and renews its description, moves no stage.

    labelled: a folder with one subfolder a class, or a manifest CSV; None: GATE_DATA, if set.
    Raises GateError where it cannot judge.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            registry = read_registry(MlflowClient(), name)
            return validate_fetched(FetchedVersion.fetch(name, str(version), Path(folder)), registry, labelled, settings)
    except (VersionError, StageError) as error:
        raise GateError(str(error)) from error


def validate_fetched(
    candidate: FetchedVersion, registry: RegistryState, labelled: Path | None, settings: GateSettings
) -> GateResult:
    """As `validate`, of a version that is on this machine. registry: what it says now of the model."""
    data = labelled or settings.data
    try:
        photos = read_labelled(data, settings.photos) if data else None
        with tempfile.TemporaryDirectory() as folder:
            return _validated(candidate, registry.holder("Production"), photos, settings, Path(folder))
    except (DataError, VersionError, StageError) as error:
        raise GateError(str(error)) from error


def _validated(
    candidate: FetchedVersion, champion: str | None, photos: LabelledPhotos | None, settings: GateSettings, folder: Path
) -> GateResult:
    name, version = candidate.name, candidate.version
    production = FetchedVersion.fetch(name, champion, folder) if champion else None
    if photos:
        photos.codes(candidate.facts.classes)  # refuses unknown labels before any work is done
    with evidence_run(name, version, {"gate.production": champion or ""}) as run_id:
        judgement, checks = _judge(candidate, production, photos, settings)
        reasons = tuple(check.reason for check in checks if not check.passed)
        log_evidence(run_id, judgement, checks, candidate.facts.classes, settings)
        publish_card(candidate, run_id, judgement, checks)
        _tag(name, version, run_id, reasons)
    return GateResult(version, not reasons, reasons, run_id, champion, judgement.basis, tuple(checks))


def _judge(
    candidate: FetchedVersion, production: FetchedVersion | None, photos: LabelledPhotos | None, settings: GateSettings
) -> tuple[GateJudgement, list[GateCheck]]:
    comparison = comparable(candidate, production, photos is not None)
    differs = production is not None and production.behaviour_sha256 != candidate.behaviour_sha256
    compared = production if comparison.passed and differs else None
    checks = [agreement(candidate, settings.recompute_agreement)]
    with ExitStack() as servers:

        def start(version: FetchedVersion) -> Trial:
            return servers.enter_context(on_trial(version.folder, settings.env_manager, settings.timeout_seconds))

        # Both start at once; the agreement above has been recomputed by then and does not slow them.
        trial, other = start(candidate), start(compared) if compared and photos else None
        up = loads(trial, settings.env_manager)
        checks = [up, *checks, comparison]
        if not up.passed:
            return GateJudgement("nothing: the version cannot be served", []), checks
        if other:
            _wait_for_production(other)
        try:
            checks[1:1] = served_checks(candidate, trial, settings)
            answers = _answers(trial, photos, f"Asking version {candidate.version}") if photos else []
        except TrialError as error:
            broken = GateCheck.fact("answers", "none", "an answer to every request", str(error))
            return GateJudgement("nothing: the version stopped answering", []), [*checks, broken]
        before = _answers(other, photos, "Asking the version in Production") if other and photos else None
    if photos:
        judgement = judge_by_photos(photos, candidate.facts.classes, answers, before, settings)
    else:
        judgement = judge_by_package(candidate.facts, settings)
    return judgement, [*checks, *judgement.checks]


def _answers(trial: Trial, photos: LabelledPhotos, step: str) -> list[dict[str, Any]]:
    return list(Progress().over(step, trial.answers(photos.rows["file"].tolist()), len(photos.rows)))


def _wait_for_production(trial: Trial) -> None:
    try:
        trial.wait()
    except TrialError as error:
        raise VersionError(
            f"The version in Production cannot be served to compare with it: {error}. Archive it, or promote with --force."
        ) from error


def _tag(name: str, version: str, run_id: str, reasons: tuple[str, ...]) -> None:
    client = MlflowClient()
    tags = {
        "gate": "refused" if reasons else "passed",
        "gate_reasons": "; ".join(reasons)[:MAX_TAG],
        "gate_evidence_run": run_id,
        "gate_checked_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
