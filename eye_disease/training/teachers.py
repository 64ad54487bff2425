"""Soft labels: what other trained networks say of a picture, to distil several networks into one."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from eye_disease.common.errors import UserError
from eye_disease.training.network import of_size
from model_code.keras_model import check_shape, dissect, load_keras


class Teachers:
    """Networks of logits, with the student's classes and scaling, whose mean answer is half of every label.

    Distillation (Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", 2015). The teachers see the very
    picture that the student sees, changed and mixed as it is (Beyer et al., "Knowledge distillation: a good teacher is
    patient and consistent", CVPR 2022), and its mirror image.
    """

    def __init__(self, files: tuple[str, ...], classes: tuple[str, ...], size: int) -> None:
        """Raises UserError for a file that is no network of logits for these classes."""
        self._networks = [of_size(load_keras(Path(file)), size) for file in files]
        for file, network in zip(files, self._networks, strict=True):
            check_shape(network, classes, size)
            if dissect(network).output_kind != "logits":
                raise UserError(f"--teachers: {file} answers probabilities. Expected a network that ends in logits.")
        self._answer = tf.function(self._mean)

    def answers(self, views: np.ndarray) -> np.ndarray:
        """Scaled views, float32 (B, S, S, 3) -> probabilities, float32 (B, C)."""
        return np.asarray(self._answer(tf.constant(views)).numpy())

    def _mean(self, views: tf.Tensor) -> tf.Tensor:
        seen = tf.concat([views, views[:, :, ::-1]], axis=0)
        logits = tf.add_n([network(seen, training=False) for network in self._networks]) / len(self._networks)
        return tf.nn.softmax(tf.add_n(tf.split(logits, 2)) / 2)
