"""Teachers: their mean answer to the student's own picture is half of what the student is told."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from eye_disease.training.dataset import TEACHERS_SHARE, AugmentedPhotos
from eye_disease.training.photos import Photos
from eye_disease.training.teachers import Teachers
from model_code.preprocessing import Recipe

SIZE = 32
CLASSES = ("glaucoma", "normal")


def _network(folder: Path, seed: int, outputs: int = 2, activation: str | None = None) -> str:
    keras.utils.set_random_seed(seed)
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(4, 5, strides=4)(keras.layers.Rescaling(1 / 255)(image))
    dense = keras.layers.Dense(outputs, activation=activation)
    path = folder / f"{seed}.keras"
    keras.Model(image, dense(keras.layers.GlobalAveragePooling2D()(x))).save(path)
    return str(path)


@pytest.fixture
def teachers(tmp_path: Path) -> Teachers:
    return Teachers((_network(tmp_path, 1), _network(tmp_path, 2)), CLASSES, SIZE)


def test_the_answer_is_the_mean_over_networks_and_the_mirror_image(tmp_path: Path, teachers: Teachers) -> None:
    views = np.random.default_rng(0).uniform(0, 255, (3, SIZE, SIZE, 3)).astype(np.float32)
    logits = [
        keras.models.load_model(tmp_path / f"{seed}.keras").predict_on_batch(seen)
        for seed in (1, 2)
        for seen in (views, views[:, :, ::-1])
    ]
    assert teachers.answers(views) == pytest.approx(softmax(np.mean(logits, axis=0), axis=1), abs=1e-5)
    assert teachers.answers(views) == pytest.approx(teachers.answers(views[:, :, ::-1]), abs=1e-5)


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_half_of_the_label_is_what_the_teachers_say_of_the_picture_that_the_student_sees(
    teachers: Teachers, mixup: float
) -> None:
    squares = np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 3), np.uint8)
    photos = Photos(pd.DataFrame({"label": ["glaucoma", "normal"] * 3, "source": "here"}), squares, CLASSES, Recipe(SIZE))
    pictures, answers = AugmentedPhotos(photos, batch=6, seed=1, mixup=mixup, teachers=teachers)[0]
    untaught, labels = AugmentedPhotos(photos, batch=6, seed=1, mixup=mixup)[0]
    assert np.array_equal(pictures, untaught)
    expected = TEACHERS_SHARE * teachers.answers(pictures) + (1 - TEACHERS_SHARE) * labels[:, :2]
    assert answers[:, :2] == pytest.approx(expected, abs=1e-5)
    assert np.array_equal(answers[:, 2:], labels[:, 2:])
    assert np.abs(answers - labels).max() > 0.1


@pytest.mark.parametrize(
    ("network", "problem"),
    [
        ({"outputs": 3}, r"output has shape \(3,\). Expected \(2,\)"),
        ({"activation": "softmax"}, r"9.keras answers probabilities. Expected a network that ends in logits"),
    ],
)
def test_a_network_that_cannot_teach_is_refused(network: dict[str, object], problem: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=problem):
        Teachers((_network(tmp_path, 9, **network),), CLASSES, SIZE)


def test_a_teacher_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent.keras is not a Keras model file"):
        Teachers((str(tmp_path / "absent.keras"),), CLASSES, SIZE)
