"""From answers and labels to the promise: who must not be missed, what counts as wrong, what is never reported."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from eye_disease.training.package import promised
from eye_disease.training.risk_control import Targets
from model_code.decision import decide
from model_code.package import ModelFacts
from model_code.preprocessing import Recipe

CLASSES = ("cataract", "diabetic_retinopathy", "glaucoma", "normal")
FACTS = ModelFacts("eyes", CLASSES, Recipe(224))
TARGETS = Targets()


def _answer(predicted: str, confidence: float, **changes: Any) -> dict[str, Any]:
    rest = {f"prob_{name}": (1 - confidence) / 3 for name in CLASSES}
    calm = {"low_confidence": False, "unfamiliar_camera": False, "other_finding": None, "other_finding_score": None}
    calm |= {"gradable": True, "out_of_distribution": False}
    return {"predicted_class": predicted, "confidence": confidence} | rest | {f"prob_{predicted}": confidence} | calm | changes


def _rows(labels: list[str], grades: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"label": labels, "grade": grades, "group": range(len(labels))})


def _clinic(photos: int, grade: float) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Every tenth eye has retinopathy, is called healthy, and nothing else is wrong."""
    ill = np.arange(photos) % 10 == 0
    answers = [_answer("normal", 0.7 + 0.25 * i / photos) for i in range(photos)]
    return answers, _rows(["diabetic_retinopathy" if one else "normal" for one in ill], np.where(ill, grade, 0.0).tolist())


def test_mild_retinopathy_may_be_missed_and_moderate_not() -> None:
    looser = Targets(max_error=0.2)
    mild, moderate, unknown = (promised(*_clinic(600, grade), FACTS, looser) for grade in (1, 2, np.nan))
    assert mild.threshold is not None
    assert mild.missed is None
    assert (moderate.threshold, unknown.threshold) == (None, None)


def test_a_missed_eye_of_any_grade_is_a_wrong_answer() -> None:
    assert promised(*_clinic(600, 1), FACTS, TARGETS).threshold is None


def test_what_is_for_a_specialist_anyway_breaks_no_promise() -> None:
    """All that is wrong is marked as something else."""
    answers, rows = _clinic(600, 2)
    marked = [one | {"other_finding": label != "normal"} for one, label in zip(answers, rows["label"], strict=True)]
    kept = promised(marked, rows, FACTS, TARGETS)
    assert kept.threshold is not None
    assert kept.error is not None and kept.error.hits == 0
    assert kept.reported == pytest.approx(0.9)


def test_what_is_decided_afterwards_is_what_was_promised() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.6, 1, 800)
    wrong = rng.random(800) < (1 - confidence) * 0.5
    answers = [_answer("normal" if bad else "glaucoma", c) for bad, c in zip(wrong, confidence, strict=True)]
    kept = promised(answers, _rows(["glaucoma"] * 800, [np.nan] * 800), FACTS, TARGETS)
    assert kept.threshold is not None
    served = ModelFacts("eyes", CLASSES, Recipe(224), promise=kept)
    reported = np.array([decide(one, served) == "report" for one in answers])
    assert reported.mean() == pytest.approx(kept.reported)
    assert kept.error is not None and kept.error.hits == wrong[reported].sum()


def test_classes_without_a_healthy_one_miss_nothing() -> None:
    facts = ModelFacts("own", ("smooth", "striped"), Recipe(64))
    answers = [_answer("glaucoma", 0.9) | {"predicted_class": "smooth", "prob_smooth": 0.9, "prob_striped": 0.1}] * 200
    kept = promised(answers, _rows(["smooth"] * 200, [np.nan] * 200), facts, TARGETS)
    assert kept.threshold is not None
    assert kept.missed is None
