"""The training loop: a warm-up and a cosine, an average of the weights, the best epoch kept, resumable after any epoch."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from eye_disease.common.errors import UserError
from eye_disease.training.dataset import AugmentedPhotos
from eye_disease.training.network import finished
from eye_disease.training.progress import Progress
from eye_disease.training.targets import TargetLoss
from eye_disease.training.validation import Validation

LAST, BEST, HISTORY = "last.keras", "best.keras", "history.json"
"""In the work folder: the newest epoch with its optimizer, the best epoch's averaged weights, the curves."""
OPTIMIZERS = {"adamw": keras.optimizers.AdamW, "lamb": keras.optimizers.Lamb}
"""`lamb` (You et al., ICLR 2020): the learning rate is a share of each kernel's size. For networks without batch normalisation,
whose kernels differ a hundredfold in size from layer to layer."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train. Raises UserError for an optimizer that is not known."""

    epochs: int = 24
    """Passes over the training photos; 0 packages a trained network as it is."""
    batch: int = 32
    """Photos of one step."""
    learning_rate: float = 5e-4
    """At its highest, after the first epoch."""
    optimizer: str = "adamw"
    """`adamw` or `lamb`."""
    weight_decay: float = 0.02
    """Of the optimizer."""
    label_smoothing: float = 0.1
    """Share of a label that is spread over all classes."""
    average: float = 0.99
    """Momentum of the weights' moving average, by step."""
    mixup: float = 0.0
    """Mixup's alpha; 0 mixes no photos."""
    gentle: float = 0.5
    """Share of the epochs, the last ones, with gentle augmentation."""
    patience: int = 8
    """Epochs without a better one after which training stops, in the second half: the best come when the rate has fallen."""
    seed: int = 1
    """Of everything that is drawn."""

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise UserError(f"optimizer={self.optimizer!r} is not known. Expected one of {', '.join(OPTIMIZERS)}.")

    @property
    def gentle_from(self) -> int:
        """The first epoch, counted from 0, with gentle augmentation."""
        return round(self.epochs * (1 - self.gentle))


@dataclass(frozen=True)
class Epoch:
    """What one epoch brought; losses without label smoothing."""

    epoch: int
    training_loss: float
    validation_loss: float
    accuracy: float
    macro_f1: float
    macro_auroc: float
    seconds: float
    within_source: float = float("nan")
    """Mean AUROC of two classes within a source, over the sources; nan where no source has two classes."""
    other_auroc: float = float("nan")
    """Of another finding against none, within the sources that have both; nan where there is none."""

    @property
    def score(self) -> float:
        """What the best epoch is chosen by: decisions and ranking, half and half, ranking within sources where that can be."""
        return (self.macro_f1 + (self.macro_auroc if np.isnan(self.within_source) else self.within_source)) / 2


def train(
    network: keras.Model,
    photos: AugmentedPhotos,
    validation: Validation,
    schedule: Schedule,
    work: Path,
    report: Callable[[Epoch], None],
) -> list[Epoch]:
    """Train `network` (from `resumed`, where there is something to resume); the best epoch is in `work`/BEST.

    `report` is called after each epoch.
    """
    # With batch normalisation, rewriting the graph takes longer than it saves: ten seconds before the first step, none after
    # it. Without, convolution, bias and ReLU become one.
    normalised = any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": normalised})
    history = read_history(work)
    if not network.compiled:
        _compile(network, len(photos), schedule, len(validation.classes))
    keeper = _Keeper(validation, schedule, work, history, report)
    if len(history) < schedule.epochs:
        callbacks = [keeper, Progress(schedule.epochs, schedule.batch)]
        network.fit(photos, epochs=schedule.epochs, initial_epoch=len(history), callbacks=callbacks, verbose=0)
    return history


def read_history(work: Path) -> list[Epoch]:
    """The epochs that a work folder holds; empty for a new one."""
    path = work / HISTORY
    return [Epoch(**epoch) for epoch in json.loads(path.read_text())] if path.is_file() else []


def resumed(work: Path) -> keras.Model:
    """The network of the newest epoch, with its optimizer."""
    return keras.models.load_model(work / LAST)


def _compile(network: keras.Model, steps: int, schedule: Schedule, classes: int) -> None:
    rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=schedule.learning_rate / 100,
        warmup_target=schedule.learning_rate,
        warmup_steps=steps,
        decay_steps=steps * max(1, schedule.epochs - 1),
        alpha=0.01,
    )
    optimizer = OPTIMIZERS[schedule.optimizer](
        rate,
        weight_decay=schedule.weight_decay,
        beta_2=0.99,
        global_clipnorm=2.0,
        use_ema=True,
        ema_momentum=schedule.average,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    network.compile(optimizer, TargetLoss(classes, schedule.label_smoothing))
    optimizer.build(network.trainable_variables)  # inside the first step it would take several times as long


class _Keeper(keras.callbacks.Callback):
    """After each epoch: saves the state, measures the averaged weights, keeps the best."""

    def __init__(
        self,
        validation: Validation,
        schedule: Schedule,
        work: Path,
        history: list[Epoch],
        report: Callable[[Epoch], None],
    ) -> None:
        super().__init__()
        self._validation = validation
        self._schedule, self._work, self._history, self._report = schedule, work, history, report

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        _save(self.model, self._work / LAST)
        raw = [variable.numpy() for variable in self.model.trainable_variables]
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        reached = self._measure(epoch, float((logs or {})["loss"]))
        if reached.score >= max((past.score for past in self._history), default=0):
            # The layers alone: the optimizer, three times their size, is for going on only.
            _save(finished(self.model, self._validation.has_other), self._work / BEST)
        for variable, value in zip(self.model.trainable_variables, raw, strict=True):
            variable.assign(value)
        self._history.append(reached)
        temporary = self._work / f"{HISTORY}.new"
        temporary.write_text(json.dumps([asdict(past) for past in self._history], indent=1))
        temporary.replace(self._work / HISTORY)
        self._report(reached)
        best = max(range(len(self._history)), key=lambda i: self._history[i].score)
        waited = len(self._history) - 1 - max(best, self._schedule.epochs // 2)
        self.model.stop_training = waited >= self._schedule.patience

    def _measure(self, epoch: int, training_loss: float) -> Epoch:
        outputs = self._validation.outputs(self.model.predict_on_batch)
        return Epoch(epoch, training_loss, **self._validation.figures(outputs), seconds=time.perf_counter() - self._start)


def _save(network: keras.Model, path: Path) -> None:
    temporary = path.with_name(f"new-{path.name}")
    network.save(temporary)
    temporary.replace(path)
