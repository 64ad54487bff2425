from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binom

from eye_disease.evaluation.figures import macro_auroc, measure
from eye_disease.evaluation.plots import (
    contact_sheet,
    plot_confusion,
    plot_curves,
    plot_reliability,
    plot_roc,
    plot_separations,
)
from eye_disease.evaluation.shares import Share, calibration_error, reliability
from eye_disease.evaluation.within_source import within_source
from tests.support.answers import answering, labelled, seeing

CLASSES = ("a", "b", "c")


def test_a_share_has_its_wilson_interval() -> None:
    """Against the closed form, z = 1.959964."""
    share, z = Share.of(np.arange(10) < 8), 1.959964
    centre, spread = (0.8 + z**2 / 20) / (1 + z**2 / 10), z * np.sqrt(0.8 * 0.2 / 10 + z**2 / 400) / (1 + z**2 / 10)
    assert (share.value, share.n) == (0.8, 10)
    assert (share.low, share.high) == pytest.approx((centre - spread, centre + spread), abs=1e-6)


def test_an_exact_interval_is_that_of_clopper_and_pearson() -> None:
    share = Share.exact(np.arange(20) < 1)
    assert (share.value, share.n) == (0.05, 20)
    assert binom.sf(0, 20, share.low) == pytest.approx(0.025, abs=1e-6)
    assert binom.cdf(1, 20, share.high) == pytest.approx(0.025, abs=1e-6)


@pytest.mark.parametrize("hits", [0, 7])
def test_a_share_at_the_edge_stays_between_0_and_1(hits: int) -> None:
    share = Share.of(np.arange(7) < hits)
    assert 0 <= share.low < share.high <= 1


def _answers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.5, 0.1, 0.4], [0, 1, 0]])
    return probabilities, np.array([0, 1, 1, 2, 2, 1]), np.array(["x", "x", "y", "y", "y", "x"])


def test_the_figures_of_a_worked_example() -> None:
    figures = measure(*_answers()[:2], CLASSES, _answers()[2])
    assert figures.confusion == [[1, 0, 0], [1, 2, 0], [1, 0, 1]]
    assert figures.accuracy.value == pytest.approx(4 / 6)
    assert {name: share.value for name, share in figures.recall.items()} == pytest.approx({"a": 1, "b": 2 / 3, "c": 0.5})
    assert {name: share.value for name, share in figures.accuracy_by_source.items()} == pytest.approx({"x": 1, "y": 1 / 3})
    # F1: a 2*1/(3+1), b 2*2/(2+3), c 2*1/(1+2).
    assert figures.macro_f1 == pytest.approx((0.5 + 0.8 + 2 / 3) / 3)
    # AUROC: a: 0.8 is above all others. b: 0.7, 0.3, 1 against 0.1, 0.2, 0.1. c: 0.7, 0.4 against 0.1 and 0.
    assert figures.macro_auroc == pytest.approx(1.0)
    assert set(figures.metrics()) >= {"accuracy", "recall_a", "accuracy_source_x", "macro_f1", "calibration_error"}


def test_a_class_without_photos_has_no_recall_and_leaves_the_auroc_open() -> None:
    probabilities, labels, sources = _answers()
    shown = labels != 2
    figures = measure(probabilities[shown], labels[shown], CLASSES, sources[shown])
    assert set(figures.recall) == {"a", "b"}
    assert np.isnan(figures.macro_auroc)
    assert "macro_auroc" not in figures.metrics()


def test_ties_count_half() -> None:
    scores = np.array([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    assert macro_auroc(scores, np.array([0, 1, 0, 1])) == pytest.approx(0.875)


def test_the_calibration_error_of_a_worked_example() -> None:
    confidence, right = np.array([0.95, 0.85, 0.65, 0.65, 1.0]), np.array([True, False, True, False, True])
    # Fifteen bins of 0.0667: 0.95 and 1.0 share the last, both right, gap 0.025, share 2/5; 0.85 alone, wrong, gap 0.85,
    # share 1/5; 0.65 twice, one right, gap 0.15, share 2/5.
    assert calibration_error(confidence, right) == pytest.approx(0.025 * 0.4 + 0.85 * 0.2 + 0.15 * 0.4)
    assert [photos for *_, photos in reliability(confidence, right)] == [2, 1, 2]


@pytest.mark.parametrize(("right", "error"), [([True, True], 0.0), ([False, False], 1.0), ([True, False], 0.5)])
def test_full_confidence_lies_in_the_last_bin(right: list[bool], error: float) -> None:
    assert calibration_error(np.array([1.0, 1.0]), np.array(right)) == pytest.approx(error)


def test_every_plot_is_a_picture(tmp_path: Path) -> None:
    probabilities, labels, sources = _answers()
    figures = measure(probabilities, labels, CLASSES, sources)
    plot_confusion(figures, CLASSES, tmp_path / "confusion.png")
    plot_reliability(probabilities, labels, tmp_path / "reliability.png")
    plot_roc(probabilities, labels, CLASSES, tmp_path / "roc.png")
    plot_curves({"loss": [3.0, 2.0, 1.0]}, tmp_path / "curves.png")
    photos = labelled(200)
    plot_separations(within_source(answering(photos, seeing(photos))), tmp_path / "within_source.png")
    contact_sheet(np.full((7, 32, 32, 3), 90, np.uint8), [f"photo {i}" for i in range(7)], tmp_path / "sheet.png")
    contact_sheet(np.zeros((0, 32, 32, 3), np.uint8), [], tmp_path / "empty.png")
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as picture:
            assert path.stem == "empty" or len(picture.convert("RGB").getcolors(maxcolors=10**6)) > 2
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (6 * 32, 2 * 60)
