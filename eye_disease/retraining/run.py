"""A retraining: labels and photos -> candidate -> Staging -> gate. Production is a person's, unless a setting gives it away."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from mlflow import MlflowClient

from eye_disease.common.errors import UserError
from eye_disease.common.lock import only_run
from eye_disease.records.storage import Storage
from eye_disease.registry.gate.gate import GateResult, validate
from eye_disease.registry.gate.settings import GateSettings
from eye_disease.registry.promotion import promote
from eye_disease.registry.register import register_package
from eye_disease.registry.versions import resolve_version
from eye_disease.retraining.labelled_photos import labels_used_until, read_feedback
from eye_disease.retraining.mixture import mix
from eye_disease.retraining.plan import Plan, RunFolder
from eye_disease.training.loop import Schedule
from eye_disease.training.prepare import SQUARES
from eye_disease.training.run import Training
from eye_disease.training.run import run as train
from model_code.setting_fields import Settings, boolean, whole

GENTLE = Schedule(epochs=4, learning_rate=5e-5, patience=4)
"""A few epochs at a tenth of the first training's rate: the network is to learn the new photos, and to keep the old."""
_MAX_TAG = 5000


@dataclass(frozen=True)
class RetrainSettings(Settings):
    """What `retrain.py` reads from its environment."""

    min_labels: int = whole("RETRAIN_MIN_LABELS", 50)
    """Labelled photos that no retraining has used yet, below which there is nothing to learn."""
    promote: bool = boolean("RETRAIN_PROMOTE", False)
    """Put a candidate that passes the gate into Production, without a person."""


class TooFewLabelsError(UserError):
    """There is not enough to learn from; nothing was trained."""

    exit_status = 4


@dataclass(frozen=True)
class Retraining:
    """What is asked for."""

    manifest: Path
    """Of the first training, with its split"""
    photos: Path
    """Where its paths start"""
    feedback_photos: Path
    """The clinic's folder with the photos that were sent"""
    inference_log: str
    """The records, as MonitoringSettings has it"""
    work: Path
    canary: Path
    base: str
    """models:/NAME/Production, models:/NAME/3 or models:/NAME@alias"""
    patients: Path | None = None
    why: str = ""
    gate_data: Path | None = None
    """Labelled photos for the gate; None: the validation photos, those held out of the feedback among them"""
    schedule: Schedule = field(default_factory=lambda: GENTLE)


@dataclass(frozen=True)
class Retrained:
    """A candidate, and what became of it."""

    name: str
    version: str
    stage: str
    """Where it is now"""
    passed: bool
    reasons: tuple[str, ...]
    """Why the gate refused it"""
    evidence_run_id: str


def retrain(
    request: Retraining,
    settings: RetrainSettings,
    say: Callable[[str], None] = print,
    gate: Callable[[str, str, Path | None, GateSettings], GateResult] = validate,
) -> Retrained:
    """Make a candidate, or resume one that was interrupted.

    Raises TooFewLabelsError; BusyError where another retraining is in progress; DataError, VersionError, GateError (the
    candidate is in Staging then, and the same command tries the gate again) and what training and registration raise.
    """
    with only_run(request.work):
        name, version = resolve_version(request.base)
        folder = RunFolder.unfinished(request.work)
        if folder and ((plan := folder.plan()).name, plan.base) != (name, version):
            based = f"based on {plan.name} version {plan.base}, but {request.base} is version {version} now"
            say(f"Abandoned {folder.path}: {based}.")
            folder.write("result", {"given_up": f"{request.base} is {name} version {version} now"})
            folder = None
        if folder:
            say(f"Resuming {folder.path}.")
        else:
            folder = _planned(request, settings, name, version, say)
        return _carried_out(folder, request, settings, say, gate)


def _planned(request: Retraining, settings: RetrainSettings, name: str, version: str, say: Callable[[str], None]) -> RunFolder:
    feedback = read_feedback(Storage(request.inference_log), name)
    mixture = mix(request.manifest, request.photos, feedback, request.feedback_photos, request.patients)
    used_until = labels_used_until(name)
    times = {digest: feedback.photos[digest].at for digest in mixture.digests}
    new = sum(used_until is None or time > used_until for time in times.values())
    left_out = {
        "labels that people contradict each other on": feedback.contradictory,
        "labels whose record or photo's digest is not in the log": feedback.waiting,
        f"photos that are not in {request.feedback_photos.name}": mixture.not_found,
        "photos that are in the manifest already": mixture.known,
    }
    counted = f"{len(times):,} labelled photos found, {new:,} of them new"
    missed = "; ".join(f"{count:,} {reason}" for reason, count in left_out.items() if count)
    say(f"{counted}. {f'Left out: {missed}.' if missed else 'None left out.'}")
    if new < settings.min_labels or not times:
        raise TooFewLabelsError(
            f"{new:,} new labelled photos, and RETRAIN_MIN_LABELS={settings.min_labels:,} are needed. "
            f"{f'Left out: {missed}. ' if missed else ''}Have more answers labelled (drift_job.py feedback), then call again."
        )
    if not mixture.patients_known:
        say("No patients given: both eyes of one may lie on both sides of the split, and then figures are too good.")
    rows = mixture.rows
    plan = Plan(
        name=name,
        base=version,
        why=request.why,
        feedback=len(times),
        new=new,
        held_out=int((rows["path"].isin(list(mixture.files)) & (rows["split"] == "val")).sum()),
        original=len(rows) - len(times),
        until=max(times.values()).isoformat(),
        left_out=left_out,
    )
    folder = RunFolder.new(request.work)
    folder.prepare(plan, mixture, request.photos)
    return folder


def _carried_out(
    folder: RunFolder,
    request: Retraining,
    settings: RetrainSettings,
    say: Callable[[str], None],
    gate: Callable[[str, str, Path | None, GateSettings], GateResult],
) -> Retrained:
    plan = folder.plan()
    if (registered := folder.read("registered")) is None:
        _train(folder, plan, request)
        version = register_package(folder.package, plan.name).version
        folder.write("registered", {"version": version})
    else:
        version = str(registered["version"])
    client = MlflowClient()
    for key, value in plan.tags().items():
        client.set_model_version_tag(plan.name, version, key, value[:_MAX_TAG])
    promote(plan.name, version, "Staging", reason=f"retrained from version {plan.base}: {plan.why}")
    say(f"{plan.name} version {version} is in Staging; the gate judges it.")
    # The paths of the folder's own manifest start beside it, wherever GATE_PHOTOS points.
    limits = GateSettings.from_env() if request.gate_data else replace(GateSettings.from_env(), photos=None)
    judged = gate(plan.name, version, request.gate_data or folder.manifest, limits)
    stage = "Staging"
    if judged.passed and settings.promote:
        promote(plan.name, version, "Production", reason=f"RETRAIN_PROMOTE, {plan.why}", judged=judged)
        stage = "Production"
    done = Retrained(plan.name, version, stage, judged.passed, judged.reasons, judged.evidence_run_id)
    folder.write("result", asdict(done))
    shutil.rmtree(folder.training / "base", ignore_errors=True)
    (folder.training / SQUARES).unlink(missing_ok=True)
    return done


def _train(folder: RunFolder, plan: Plan, request: Retraining) -> None:
    train(
        Training(
            rows=folder.rows(),
            folder=folder.photos,
            base=f"models:/{plan.name}/{plan.base}",
            work=folder.training,
            output=folder.package,
            canary=request.canary,
            drop_bad=True,  # one unreadable photo of the clinic's must not hold up the loop; the training names how many
            description=plan.description,
            schedule=request.schedule,
        )
    )
