"""How a network in training is judged: within sources, and on photos of another finding."""

import numpy as np
import pandas as pd
import pytest

from eye_disease.training.loop import Epoch
from eye_disease.training.photos import Photos
from eye_disease.training.validation import Validation, within_sources
from model_code.preprocessing import Recipe

CLASSES = ("ill", "well")


def _photos(labels: list[str], sources: list[str], more: pd.DataFrame | None = None) -> Photos:
    rows = pd.DataFrame({"label": labels, "source": sources})
    squares = np.zeros((len(labels) + (0 if more is None else len(more)), 32, 32, 3), np.uint8)
    if more is None:
        return Photos(rows, squares, CLASSES, Recipe(32))
    return Photos(rows, squares, CLASSES, Recipe(32), more.set_index(pd.RangeIndex(len(rows), len(squares))))


def test_a_network_that_tells_cameras_apart_is_found_out() -> None:
    labels = np.array([0] * 10 + [1] * 10 + [0] * 5 + [1] * 30)
    sources = np.array(["hospital"] * 20 + ["street"] * 35)
    camera = np.stack([np.where(sources == "hospital", 3.0, -3.0), np.zeros(55)], axis=1)
    eye = np.stack([np.where(labels == 0, 3.0, -3.0), np.zeros(55)], axis=1)
    assert within_sources(camera, labels, sources) == 0.5
    assert within_sources(eye, labels, sources) == 1
    assert within_sources(camera + eye, labels, sources) == 1


def test_a_source_counts_once_however_many_pairs_it_has_and_small_groups_do_not() -> None:
    labels = np.repeat([0, 1, 2, 0, 1, 0], [5, 5, 5, 5, 5, 4])
    sources = np.repeat(["a", "b", "c"], [15, 10, 4])
    scores = np.zeros((29, 3))
    scores[sources == "b", 0] = np.where(labels[sources == "b"] == 0, 1.0, 0.0)
    assert within_sources(scores, labels, sources) == pytest.approx((0.5 + 1) / 2)
    assert np.isnan(within_sources(scores[15:20], labels[15:20], sources[15:20]))


def test_another_finding_is_compared_within_its_own_source() -> None:
    more = pd.DataFrame({"label": ["other", "other", "unsure"], "source": "here"})
    validation = Validation(_photos(["ill", "well"] * 4, ["here"] * 4 + ["there"] * 4, more))
    outputs = np.zeros((10, 3))
    outputs[4:8, 2] = 9
    outputs[8:, 2] = 5
    figures = validation.figures(outputs)
    assert figures["other_auroc"] == 1, "what is found elsewhere, where it was not looked for, does not count"
    assert validation.outputs(lambda views: np.ones((len(views), 3))).shape == (10, 3)


def test_without_photos_of_another_finding_and_with_one_class_a_source_there_is_no_such_figure() -> None:
    validation = Validation(_photos(["ill"] * 6 + ["well"] * 6, ["a"] * 6 + ["b"] * 6))
    figures = validation.figures(np.tile([1.0, 0.0, 0.0], (12, 1)))
    assert np.isnan(figures["within_source"])
    assert np.isnan(figures["other_auroc"])
    assert Epoch(0, 0.0, **figures, seconds=1.0).score == pytest.approx((figures["macro_f1"] + figures["macro_auroc"]) / 2)
