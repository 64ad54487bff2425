"""Photos as the training loop takes them: drawn so that sources and classes are balanced, and augmented."""

import math

import keras
import numpy as np
import tensorflow as tf

from eye_disease.training.augment import SELDOM_STRANGE, STRANGE, augment
from eye_disease.training.photos import Photos
from eye_disease.training.targets import UNSURE, encode
from eye_disease.training.teachers import Teachers
from model_code.preprocessing import Recipe, scale

TEACHERS_SHARE = 0.5
"""How much of a picture's label is the teachers' answer; the rest is what a person said, which teachers forget where a photo is
made to look strange."""


class AugmentedPhotos(keras.utils.PyDataset):
    """Batches of scaled views, float32 (B, S, S, 3), and what is known of them (see targets); a new choice each epoch.

    An epoch shows as many photos as there are; see `shown_in_an_epoch`. The epochs count up from `epoch`; each one's choice,
    order and changes follow from `seed` and its number, so that resuming continues as if nothing had happened. From the epoch
    `gentle_from` on, fewer photos look strange and none are mixed: what serving sees.
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
        rows = photos.all_rows
        rows = rows[rows["label"] != UNSURE]
        self._squares, self._places = photos.squares, rows.index.to_numpy()
        self._classes, self._recipe = len(photos.classes), photos.recipe
        self._batch, self._seed, self._epoch = batch, seed, epoch
        self._mixup, self._gentle_from, self._teachers = mixup, gentle_from, teachers
        self._shown = shown_in_an_epoch(rows["source"].to_numpy(str), rows["label"].to_numpy(str))
        self._targets = encode(rows, photos.classes, self._shown)
        self._rng = tf.random.Generator.from_seed(seed)
        self._augment = tf.function(lambda squares, strange: augment(squares, self._rng, strange), reduce_retracing=True)
        self._start_epoch()

    def __len__(self) -> int:
        return math.ceil(len(self._places) / self._batch)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self._order[index * self._batch : (index + 1) * self._batch]
        self._rng.reset_from_seed(hash((self._seed, self._epoch, index)) & 0x7FFFFFFF)
        gentle = self._epoch >= self._gentle_from
        strange = tf.constant(SELDOM_STRANGE if gentle else STRANGE)
        views = self._augment(tf.constant(self._squares[self._places[chosen]]), strange).numpy()
        pictures, targets = scale_batch(views, self._recipe), self._targets[chosen]
        if not gentle and self._mixup:
            rng = np.random.default_rng((self._seed, self._epoch, index))
            pictures, targets = mixed_up((pictures, targets), self._mixup, rng)
        if self._teachers:
            targets = targets.copy()
            targets[:, : self._classes] += TEACHERS_SHARE * (self._teachers.answers(pictures) - targets[:, : self._classes])
        return pictures, targets

    def on_epoch_end(self) -> None:
        """Keras calls it: another choice for the next epoch."""
        self._epoch += 1
        self._start_epoch()

    def _start_epoch(self) -> None:
        rng = np.random.default_rng((self._seed, self._epoch))
        self._order = rng.permutation(drawn(self._shown, rng))


def shown_in_an_epoch(sources: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How often each photo is shown in an epoch, on average, float (N,), sum N; sources, labels: str (N,).

    The photos of one class of one source are shown in proportion to the root of their number: small groups are heard, and
    large ones still count for more.
    """
    _, group, counts = np.unique(np.stack([sources, labels]), axis=1, return_inverse=True, return_counts=True)
    shown = 1 / np.sqrt(counts)[group.ravel()]
    return np.asarray(shown * len(shown) / shown.sum())


def drawn(shown: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices, int (N,): each photo as often as `shown` (N,) says on average, and no two alike more than once apart.

    Systematic sampling over the photos in random order.
    """
    order = rng.permutation(len(shown))
    ends = np.cumsum(shown[order])
    ticks = (np.arange(len(shown)) + rng.uniform()) * (ends[-1] / len(shown))
    return np.asarray(order[np.searchsorted(ends, ticks, side="right").clip(max=len(shown) - 1)])


def mixed_up(batch: tuple[np.ndarray, ...], alpha: float, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Views and targets of a batch, each photo mixed with another by a share of Beta(alpha, alpha).

    Mixup (Zhang et al., ICLR 2018). The larger share is the photo's own.
    """
    share = rng.beta(alpha, alpha, len(batch[0])).astype(np.float32)
    share = np.maximum(share, 1 - share)
    partner = rng.permutation(len(share))
    shares = (share.reshape(-1, *[1] * (array.ndim - 1)) for array in batch)
    return tuple(of * array + (1 - of) * array[partner] for of, array in zip(shares, batch, strict=True))


def scale_batch(views: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Views (N, S, S, 3) of 0..255 -> float32 of the range that the network expects."""
    return np.concatenate([scale(view, recipe) for view in views])
