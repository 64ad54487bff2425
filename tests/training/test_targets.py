"""What the loss is told of a photo, and what it makes of it."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, log_softmax, softmax

from eye_disease.training.split import DataError
from eye_disease.training.targets import GRADE_WEIGHT, OTHER_WEIGHT, TargetLoss, encode, possible_classes

CLASSES = ("cataract", "dr", "normal")
NAN = float("nan")


def _rows(*photos: tuple[str, str, str | None, float]) -> pd.DataFrame:
    return pd.DataFrame(photos, columns=["source", "label", "finding", "grade"])


def _loss(rows: pd.DataFrame, outputs: np.ndarray, smoothing: float = 0.0) -> np.ndarray:
    return np.asarray(TargetLoss(3, smoothing).call(encode(rows, CLASSES, np.ones(len(rows))), outputs.astype(np.float32)))


def test_the_labels_say_which_classes_are_possible() -> None:
    rows = _rows(
        ("a", "dr", None, 2),
        ("a", "not_dr", None, NAN),
        ("a", "several", "cataract|dr", NAN),
        ("a", "other", "drusen", NAN),
        ("a", "unsure", "suspected glaucoma", NAN),
    )
    assert possible_classes(rows, CLASSES).astype(int).tolist() == [[0, 1, 0], [1, 0, 1], [1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert possible_classes(rows.drop(columns="finding").iloc[:2], CLASSES).astype(int).tolist() == [[0, 1, 0], [1, 0, 1]]


@pytest.mark.parametrize(("label", "finding"), [("not_cat", None), ("several", "cataract|drusen"), ("Dr", None)])
def test_a_label_that_says_nothing_is_refused_with_what_was_expected(label: str, finding: str | None) -> None:
    with pytest.raises(DataError, match=f"{label}.*Expected one of cataract, dr, normal; other; unsure; not_"):
        possible_classes(_rows(("a", label, finding, NAN)), CLASSES)


def test_one_source_adds_nothing_to_the_logits_and_the_loss_is_cross_entropy() -> None:
    rows = _rows(*[("a", name, None, NAN) for name in CLASSES])
    outputs = np.random.default_rng(0).normal(size=(3, 8))
    assert _loss(rows, outputs) == pytest.approx(-np.diag(log_softmax(outputs[:, :3], axis=1)), abs=1e-5)


def test_a_partial_label_asks_only_that_the_answer_be_possible() -> None:
    rows = _rows(("a", "not_dr", None, NAN), ("a", "several", "cataract|dr", NAN), ("a", "unsure", None, NAN))
    outputs = np.random.default_rng(1).normal(size=(3, 8)) * 3
    probabilities = softmax(outputs[:, :3] + encode(rows, CLASSES, np.ones(3))[:, 3:6], axis=1)
    expected = [-np.log(1 - probabilities[0, 1]), -np.log(probabilities[1, 0] + probabilities[1, 1]), 0]
    assert _loss(rows, outputs) == pytest.approx(expected, abs=1e-5)


def test_another_finding_is_learned_only_where_it_was_looked_for() -> None:
    rows = _rows(
        ("a", "normal", None, NAN), ("a", "other", "drusen", NAN), ("a", "not_dr", None, NAN), ("b", "normal", None, NAN)
    )
    without, outputs = np.zeros((4, 8)), np.zeros((4, 8))
    outputs[:, 3] = 1.5
    cost = _loss(rows, outputs) - _loss(rows, without)
    binary = [-np.log(1 - expit(1.5)), -np.log(expit(1.5))]
    assert cost == pytest.approx(
        [OTHER_WEIGHT * (binary[0] - np.log(2)), OTHER_WEIGHT * (binary[1] - np.log(2)), 0, 0], abs=1e-5
    )


def test_the_grade_is_ordered_and_not_asked_for_where_it_is_not_known() -> None:
    rows = _rows(("a", "dr", None, 2), ("a", "normal", None, 0), ("a", "cataract", None, NAN))
    outputs = np.zeros((3, 8))
    before = _loss(rows, outputs)
    outputs[:, 4:] = [9, 9, -9, -9]
    cost = (_loss(rows, outputs) - before) / GRADE_WEIGHT
    assert cost[0] == pytest.approx(-np.log(2), abs=1e-3), "grade 2 is at least 1 and 2, not 3 and 4"
    assert cost[1] > 3
    assert cost[2] == 0


def test_what_the_source_alone_tells_is_taken_from_the_answer() -> None:
    """Of two sources with the same classes in other proportions, the sum of all else being equal, neither moves the logits."""
    rows = _rows(*[("ill", "dr", None, NAN)] * 9, ("ill", "normal", None, NAN), *[("well", "normal", None, NAN)] * 10)
    prior = encode(rows, CLASSES, np.ones(20))[:, 3:6]
    assert prior[0, 1] - prior[0, 2] > 1, "the source tells of the disease, so the network need not"
    assert prior[-1, 2] - prior[-1, 1] > 1
    assert (prior[:10] == prior[0]).all()
    assert (prior[10:] == prior[10]).all()


def test_the_loss_goes_on_from_a_saved_training() -> None:
    loss = TargetLoss(3, 0.1)
    again = TargetLoss.from_config(loss.get_config())
    rows = _rows(("a", "dr", None, 2), ("b", "normal", None, 0))
    targets, outputs = encode(rows, CLASSES, np.ones(2)), np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    assert float(again(targets, outputs)) == float(loss(targets, outputs))
