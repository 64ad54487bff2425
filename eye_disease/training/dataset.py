"""Photos as the training loop takes them: shuffled, rare classes repeated, augmented."""

import math

import keras
import numpy as np
import tensorflow as tf

from eye_disease.training.augment import SELDOM_STRANGE, STRANGE, augment
from eye_disease.training.photos import Photos
from eye_disease.training.teachers import Teachers
from model_code.preprocessing import Recipe, scale

MAX_REPEATS = 2
"""A photo is shown at most so often in an epoch; class weights make up for the rest of the imbalance."""

TEACHERS_SHARE = 0.5
"""How much of a picture's label is the teachers' answer; the rest is what a person said, which teachers forget where a photo is
made to look strange."""


class AugmentedPhotos(keras.utils.PyDataset):
    """Batches of scaled views, float32 (B, S, S, 3), labels, float32 (B, C), and weights (B,); a new order each epoch.

    The epochs count up from `epoch`; each one's order and changes follow from `seed` and its number, so that resuming
    continues as if nothing had happened. From the epoch `gentle_from` on, fewer photos look strange and none are mixed: what
    serving sees. Labels are one-hot, but for mixed photos and what `teachers` say.
    """

    def __init__(
        self,
        photos: Photos,
        batch: int,
        seed: int,
        epoch: int = 0,
        mixup: float = 0.0,
        gentle_from: float = math.inf,
        teachers: Teachers | None = None,
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=3)
        self._squares, self._places = photos.squares, photos.rows.index.to_numpy()
        self._labels, self._classes, self._recipe = photos.labels, len(photos.classes), photos.recipe
        self._batch, self._seed, self._epoch = batch, seed, epoch
        self._mixup, self._gentle_from, self._teachers = mixup, gentle_from, teachers
        counts = np.bincount(self._labels, minlength=self._classes)
        repeats = np.clip(counts.max() // np.maximum(counts, 1), 1, MAX_REPEATS)
        self._shown = np.repeat(np.arange(len(self._labels)), repeats[self._labels])
        self._weights = class_weights(counts * repeats)
        self._rng = tf.random.Generator.from_seed(seed)
        self._augment = tf.function(lambda squares, strange: augment(squares, self._rng, strange))
        self._start_epoch()

    def __len__(self) -> int:
        return math.ceil(len(self._shown) / self._batch)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        chosen = self._order[index * self._batch : (index + 1) * self._batch]
        self._rng.reset_from_seed(hash((self._seed, self._epoch, index)) & 0x7FFFFFFF)
        gentle = self._epoch >= self._gentle_from
        strange = tf.constant(SELDOM_STRANGE if gentle else STRANGE)
        views = self._augment(tf.constant(self._squares[self._places[chosen]]), strange).numpy()
        labels = self._labels[chosen]
        batch = scale_batch(views, self._recipe), np.eye(self._classes, dtype=np.float32)[labels], self._weights[labels]
        if not gentle and self._mixup:
            batch = mixed_up(batch, self._mixup, np.random.default_rng((self._seed, self._epoch, index)))
        pictures, answers, weights = batch
        if self._teachers:
            answers += TEACHERS_SHARE * (self._teachers.answers(pictures) - answers)
        return pictures, answers, weights

    def on_epoch_end(self) -> None:
        """Keras calls it: another order for the next epoch."""
        self._epoch += 1
        self._start_epoch()

    def _start_epoch(self) -> None:
        self._order = np.random.default_rng((self._seed, self._epoch)).permutation(self._shown)


def mixed_up(batch: tuple[np.ndarray, ...], alpha: float, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Views, labels and weights of a batch, each photo mixed with another by a share of Beta(alpha, alpha).

    Mixup (Zhang et al., ICLR 2018). The larger share is the photo's own.
    """
    share = rng.beta(alpha, alpha, len(batch[0])).astype(np.float32)
    share = np.maximum(share, 1 - share)
    partner = rng.permutation(len(share))
    shares = (share.reshape(-1, *[1] * (array.ndim - 1)) for array in batch)
    return tuple(of * array + (1 - of) * array[partner] for of, array in zip(shares, batch, strict=True))


def class_weights(counts: np.ndarray) -> np.ndarray:
    """Loss weight of each class, float32 (C,): inverse root of its count, mean 1 over the photos."""
    weights = 1 / np.sqrt(np.maximum(counts, 1))
    return (weights * counts.sum() / (weights * counts).sum()).astype(np.float32)


def scale_batch(views: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Views (N, S, S, 3) of 0..255 -> float32 of the range that the network expects."""
    return np.concatenate([scale(view, recipe) for view in views])
