"""Which photos an epoch shows, and how they are changed."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from eye_disease.training.augment import augment
from eye_disease.training.dataset import AugmentedPhotos, drawn, mixed_up, shown_in_an_epoch
from eye_disease.training.loop import Schedule
from eye_disease.training.photos import Photos
from model_code.preprocessing import Recipe, field_of_view


def _dataset(labels: list[str], squares: np.ndarray | None = None, **options: float) -> AugmentedPhotos:
    held = np.zeros((len(labels), 32, 32, 3), np.uint8) if squares is None else squares
    rows = pd.DataFrame({"label": labels, "source": "here"})
    return AugmentedPhotos(Photos(rows, held, tuple(sorted(set(labels))), Recipe(32)), batch=4, seed=1, **options)


def test_small_groups_of_a_source_and_class_are_shown_more_often() -> None:
    sources, labels = np.array(["a"] * 120 + ["b"] * 30), np.array(["ill"] * 100 + ["well"] * 45 + ["ill"] * 5)
    shown = shown_in_an_epoch(sources, labels)
    assert shown.sum() == pytest.approx(150)
    sums = np.array([shown[:100].sum(), shown[100:120].sum(), shown[120:145].sum(), shown[145:].sum()])
    assert sums / sums[0] == pytest.approx(np.sqrt([1, 0.2, 0.25, 0.05]))


def test_each_photo_is_drawn_as_often_as_it_is_to_be_shown() -> None:
    shown = np.array([0.4] * 50 + [1.0] * 30 + [2.5] * 20)
    epochs = np.stack([np.bincount(drawn(shown, np.random.default_rng(seed)), minlength=100) for seed in range(200)])
    assert (epochs.sum(axis=1) == 100).all()
    assert (epochs >= np.floor(shown)).all()
    assert (epochs <= np.ceil(shown)).all()
    assert np.stack([epochs[:, :50].mean(), epochs[:, 80:].mean()]) == pytest.approx([0.4, 2.5], abs=0.05)


def test_an_epoch_shows_as_many_photos_as_there_are_and_none_that_is_unsure() -> None:
    rows = pd.DataFrame({"label": ["ill", "well"] * 5, "source": "here"})
    more = pd.DataFrame({"label": ["unsure", "not_ill", "other"], "source": "here"}, index=[10, 11, 12])
    squares = np.broadcast_to(np.uint8(20 * np.arange(13))[:, None, None, None], (13, 32, 32, 3))
    dataset = AugmentedPhotos(Photos(rows, squares, ("ill", "well"), Recipe(32), more), batch=5, seed=1)
    assert len(dataset) == 3
    assert sum(len(dataset[i][0]) for i in range(3)) == 12
    assert 10 not in dataset._places


def test_an_epoch_is_the_same_after_resuming() -> None:
    squares = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    labels = ["a"] * 5 + ["b"] * 4
    whole, resumed = _dataset(labels, squares), _dataset(labels, squares, epoch=1)
    first = whole[0][0]
    whole.on_epoch_end()
    for i in range(len(whole)):
        assert all((ours == theirs).all() for ours, theirs in zip(whole[i], resumed[i], strict=True))
    assert (whole[0][0] != first).any()


def test_mixed_photos_carry_both_answers_by_their_shares() -> None:
    colours = np.float32([0, 60, 120, 180, 240])
    views = np.ones((5, 4, 4, 3), np.float32) * colours[:, None, None, None]
    mixed, answers = mixed_up((views, np.eye(5, dtype=np.float32)), 0.4, np.random.default_rng(3))
    assert mixed.shape == views.shape
    assert answers.sum(axis=1) == pytest.approx(1)
    assert answers.argmax(axis=1).tolist() == [0, 1, 2, 3, 4]
    assert mixed[:, 2, 2, 1] == pytest.approx(answers @ colours, abs=1e-3)
    assert 0.5 <= np.diag(answers).min() < 0.95


def test_mixup_leaves_augmentation_and_order_as_they_are() -> None:
    squares = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    plain, mixing = _dataset(["a"] * 8 + ["b"], squares), _dataset(["a"] * 8 + ["b"], squares, mixup=0.4)
    assert not np.array_equal(plain[0][0], mixing[0][0])
    assert np.array_equal(plain[0][1][:, :2].argmax(axis=1), mixing[0][1][:, :2].argmax(axis=1))
    assert np.array_equal(mixing[0][0], mixing[0][0])


def test_the_last_epochs_are_gentle_and_mix_nothing() -> None:
    squares = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    labels = ["a"] * 5 + ["b"] * 4
    assert Schedule(epochs=10, gentle=0.3).gentle_from == 7
    for gentle_from, mixed in ((1, False), (2, True)):
        dataset = _dataset(labels, squares, mixup=0.4, gentle_from=gentle_from, epoch=1)
        answers = np.concatenate([dataset[i][1][:, :2] for i in range(len(dataset))])
        assert (len(np.unique(answers)) > 2) is mixed


def test_augmented_views_stay_in_range_and_in_the_field_of_view() -> None:
    squares = np.random.default_rng(0).integers(0, 256, (32, 64, 64, 3), dtype=np.uint8)
    views = augment(tf.constant(squares), tf.random.Generator.from_seed(1)).numpy()
    assert views.shape == (32, 64, 64, 3)
    assert np.isfinite(views).all()
    assert -1 < views.min() <= views.max() < 256
    assert not views[:, field_of_view(64) == 0].any()
    cut = (views[:, 0:4, 28:36].max(axis=(1, 2, 3)) == 0).mean()
    assert 0.1 < cut < 0.9, "the frame is cut for some photos, not for all"


def test_augmentation_makes_the_colours_of_two_cameras_overlap() -> None:
    """Which of two tints a photo had is hard to tell once it is made to look as if by another camera."""
    red, blue = (np.tile(np.uint8(colour), (64, 64, 64, 1)) for colour in ((180, 90, 60), (120, 90, 120)))
    texture = np.random.default_rng(0).integers(-20, 20, (128, 64, 64, 1))
    squares = (np.concatenate([red, blue]) + texture).clip(0, 255).astype(np.uint8)
    order = np.random.default_rng(1).permutation(128)
    views = augment(tf.constant(squares[order]), tf.random.Generator.from_seed(1), strange=0.5).numpy()
    middle = views[:, 20:44, 20:44].mean(axis=(1, 2))
    tint = middle[:, 0] - middle[:, 2]
    was_red = order < 64
    threshold = np.median(tint)
    assert (tint[was_red] < threshold).mean() > 0.12
    assert (tint[~was_red] > threshold).mean() > 0.12
