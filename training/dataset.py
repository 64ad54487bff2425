"""Photos as the training loop takes them: shuffled, rare classes repeated, augmented."""

import math

import keras
import numpy as np
import tensorflow as tf

from model_code.preprocessing import Recipe, scale
from training.augment import augment
from training.photos import Photos

MAX_REPEATS = 2
"""A photo is shown at most so often in an epoch; class weights make up for the rest of the imbalance."""


class AugmentedPhotos(keras.utils.PyDataset):
    """Batches of scaled views, float32 (B, S, S, 3), one-hot labels (B, C) and weights (B,); a new order each epoch.

    The epochs count up from `epoch`; each one's order and changes follow from `seed` and its number, so that resuming
    continues as if nothing had happened.
    """

    def __init__(self, photos: Photos, batch: int, seed: int, epoch: int = 0) -> None:
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=3)
        self._squares, self._places = photos.squares, photos.rows.index.to_numpy()
        self._labels, self._classes, self._recipe = photos.labels, len(photos.classes), photos.recipe
        self._batch, self._seed, self._epoch = batch, seed, epoch
        counts = np.bincount(self._labels, minlength=self._classes)
        repeats = np.clip(counts.max() // np.maximum(counts, 1), 1, MAX_REPEATS)
        self._shown = np.repeat(np.arange(len(self._labels)), repeats[self._labels])
        self._weights = class_weights(counts * repeats)
        self._rng = tf.random.Generator.from_seed(seed)
        self._augment = tf.function(lambda squares: augment(squares, self._rng))
        self._start_epoch()

    def __len__(self) -> int:
        return math.ceil(len(self._shown) / self._batch)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        chosen = self._order[index * self._batch : (index + 1) * self._batch]
        self._rng.reset_from_seed(hash((self._seed, self._epoch, index)) & 0x7FFFFFFF)
        views = self._augment(tf.constant(self._squares[self._places[chosen]])).numpy()
        labels = self._labels[chosen]
        return scale_batch(views, self._recipe), np.eye(self._classes, dtype=np.float32)[labels], self._weights[labels]

    def on_epoch_end(self) -> None:
        """Keras calls it: another order for the next epoch."""
        self._epoch += 1
        self._start_epoch()

    def _start_epoch(self) -> None:
        self._order = np.random.default_rng((self._seed, self._epoch)).permutation(self._shown)


def class_weights(counts: np.ndarray) -> np.ndarray:
    """Loss weight of each class, float32 (C,): inverse root of its count, mean 1 over the photos."""
    weights = 1 / np.sqrt(np.maximum(counts, 1))
    return (weights * counts.sum() / (weights * counts).sum()).astype(np.float32)


def scale_batch(views: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Views (N, S, S, 3) of 0..255 -> float32 of the range that the network expects."""
    return np.concatenate([scale(view, recipe) for view in views])
