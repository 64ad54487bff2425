"""A whole training: photos -> network -> package, recorded in MLflow, resumable."""

import json
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import keras
import pandas as pd

from eye_disease.common.errors import UserError
from eye_disease.registry.versions import FetchedVersion, resolve_version
from eye_disease.training import network as networks
from eye_disease.training import tracking
from eye_disease.training.dataset import AugmentedPhotos
from eye_disease.training.loop import BEST, LAST, Epoch, Schedule, read_history, resumed, train
from eye_disease.training.malloc import keep_freed_memory
from eye_disease.training.package import Finished, finish
from eye_disease.training.photos import Photos
from eye_disease.training.prepare import prepare_photos
from eye_disease.training.risk_control import Targets
from eye_disease.training.teachers import Teachers
from eye_disease.training.validation import Validation
from model_code.keras_model import load_keras
from model_code.package import ModelFacts, keras_file
from model_code.preprocessing import Recipe
from model_code.schema import MODEL_NAME

OPTIONS, BLENDED = "options.json", "blended.keras"
"""In the work folder: what the training was started with; the best epoch's network moved towards another."""


@dataclass(frozen=True)
class Training:
    """What to train on what."""

    rows: pd.DataFrame
    """eye_disease.training.split's table"""
    folder: Path
    """Where the photos' paths start."""
    base: str
    """See training.network.build."""
    work: Path
    """Holds everything that resuming needs; reports and plots."""
    output: Path
    """The folder of the model package."""
    canary: Path
    """A photo whose answer the package keeps."""
    classes: tuple[str, ...] | None = None
    """None: the labels, in alphabetical order."""
    size: int = 224
    """Side of the network's input, pixels."""
    frozen: float = 0.0
    """Share of the layers, from the input on, that keep their weights."""
    fold: bool = False
    """See training.network.folded."""
    blend: str = ""
    """A `.keras` file towards which the trained weights are moved; see training.network.blended."""
    blend_share: float = 0.3
    more: pd.DataFrame | None = None
    """Photos that are not of exactly one class; see training.targets for their labels."""
    teachers: tuple[str, ...] = ()
    """`.keras` files whose mean answer is half of every label."""
    quantize: bool = False
    """See conversion.quantization; may differ when a training is resumed. A version as base brings its own."""
    drop_bad: bool = False
    validation_share: float = 0.15
    description: str = ""
    targets: Targets = field(default_factory=Targets)
    """What the package promises of its reports; may differ when a training is resumed."""
    schedule: Schedule = field(default_factory=Schedule)

    def options(self) -> dict[str, object]:
        """What must be the same when a training is resumed."""
        names = ("base", "size", "frozen", "fold", "blend", "blend_share", "drop_bad", "validation_share")
        return (
            {name: getattr(self, name) for name in names}
            | asdict(self.schedule)
            | {"teachers": list(self.teachers), "photos": len(self.rows), "more": 0 if self.more is None else len(self.more)}
        )


def run(training: Training) -> Finished:
    """Train (or go on training) and write the package.

    Raises DataError for photos that cannot be trained on, ValueError for a base or a work folder that does not fit.
    """
    work, schedule, options = training.work, training.schedule, training.options()
    work.mkdir(parents=True, exist_ok=True)
    _check_options(training)
    keep_freed_memory()
    keras.utils.set_random_seed(schedule.seed)
    training, recipe = _resolved(training)
    prepared = prepare_photos(
        training.rows,
        training.folder,
        training.classes,
        recipe,
        work,
        training.drop_bad,
        training.validation_share,
        schedule.seed,
        _say_progress,
        training.more,
    )
    for remark in prepared.remarks:
        print(f"Note: {remark}", flush=True)
    photos = prepared.photos
    with tracking.tracked(work, options) as tracks:
        history = _train(training, photos, tracks)
        provenance = {"description": training.description}
        facts = ModelFacts(MODEL_NAME, photos.classes, recipe, quantized=training.quantize, provenance=provenance)
        finished = finish(
            _blended(training), photos, training.folder, training.canary, training.output, facts, training.targets
        )
        if tracks:
            tracking.log_result(finished, history, photos, work)
    return finished


def _resolved(training: Training) -> tuple[Training, Recipe]:
    """The base as a file or a name, and how its photos are prepared."""
    if training.base.startswith("models:/"):
        version = FetchedVersion.fetch(*resolve_version(training.base), training.work / "base")
        facts, recipe = version.facts, version.facts.recipe
        if recipe.crop != "fundus":
            raise UserError(
                f"{training.base} takes whole photos (crop={recipe.crop!r}), and training crops to the retinal disc. "
                "Train its Keras file with --base FILE.keras instead."
            )
        base = str(keras_file(version.package))
        classes, quantize = training.classes or facts.classes, training.quantize or facts.quantized
        return replace(training, base=base, classes=classes, size=recipe.input_size, quantize=quantize), recipe
    scaling = "none" if networks.is_file(training.base) else networks.scaling_of(training.base)
    return training, Recipe(training.size, scaling=scaling)


def _train(training: Training, photos: Photos, tracks: bool) -> list[Epoch]:
    schedule, work = training.schedule, training.work
    started = read_history(work)
    frozen, fold = training.frozen, training.fold
    network = resumed(work) if started else networks.build(training.base, len(photos.classes), training.size, frozen, fold)
    if started:
        print(f"Going on after epoch {len(started)} in {work}.", flush=True)
    if schedule.epochs == 0:
        networks.finished(network, networks.knows_other(training.base)).save(work / BEST)
        return []
    teachers = Teachers(training.teachers, photos.classes, training.size) if training.teachers else None
    augmented = AugmentedPhotos(
        photos.of("train"), schedule.batch, schedule.seed, len(started), schedule.mixup, schedule.gentle_from, teachers
    )
    start = time.monotonic()

    def report(epoch: Epoch) -> None:
        done = epoch.epoch + 1
        left = (time.monotonic() - start) / (done - len(started)) * (schedule.epochs - done)
        print(
            f"epoch {done}/{schedule.epochs}: loss {epoch.training_loss:.3f}, validation loss {epoch.validation_loss:.3f}, "
            f"accuracy {epoch.accuracy:.3f}, macro-F1 {epoch.macro_f1:.3f}, macro AUROC {epoch.macro_auroc:.3f}, "
            f"within a source {epoch.within_source:.3f}, other finding {epoch.other_auroc:.3f}; "
            f"{epoch.seconds:.0f} s, about {left / 60:.0f} min left",
            flush=True,
        )
        if tracks:
            tracking.log_epoch(epoch)

    return train(network, augmented, Validation(photos.of("val")), schedule, work, report)


def _blended(training: Training) -> Path:
    """The best epoch's network, moved towards another where that is asked for."""
    best = training.work / BEST
    if not training.blend:
        return best
    path = training.work / BLENDED
    networks.blended(load_keras(best), Path(training.blend), training.blend_share).save(path)
    return path


def _check_options(training: Training) -> None:
    """Keep the options with the work; raise UserError where the folder holds a training with others."""
    path, asked = training.work / OPTIONS, training.options()
    if (training.work / LAST).is_file() and path.is_file() and (before := json.loads(path.read_text())) != asked:
        changed = [f"{name}: {before.get(name)} -> {value}" for name, value in asked.items() if before.get(name) != value]
        raise UserError(
            f"{training.work} holds a training with other options ({', '.join(changed)}). "
            "Give the same options to resume it, or another --work folder to start anew."
        )
    path.write_text(json.dumps(asked, indent=1))


def _say_progress(done: int, total: int) -> None:
    if done % 500 == 0 or done == total:
        print(f"{done} of {total} photos read", flush=True)
