from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from model_code.decision import answer_columns, decide, other_finding_score, report_score, second_disease
from model_code.package import ModelFacts, OtherFinding, Statistics
from model_code.preprocessing import Recipe
from model_code.promise import Bounded, Promise

CLASSES = ("cataract", "diabetic_retinopathy", "glaucoma", "normal")
FACTS = ModelFacts("eyes", CLASSES, Recipe(224))
PROMISE = Promise(0.08, 0.05, 0.95, 0.8, Bounded(2, 100, 0.06), Bounded(0, 90, 0.03), 0.6, 200)


def _answer(predicted: str, confidence: float = 0.9, **changes: Any) -> dict[str, Any]:
    """An answer with nothing to doubt; the rest of the probability is spread evenly."""
    rest = (1 - confidence) / (len(CLASSES) - 1)
    probabilities = {f"prob_{name}": confidence if name == predicted else rest for name in CLASSES}
    calm = {"low_confidence": False, "other_finding": False, "other_finding_score": 0.0, "gradable": True}
    calm |= {"out_of_distribution": False, "unfamiliar_camera": False}
    return {"predicted_class": predicted, "confidence": confidence, **probabilities, **calm, **changes}


@pytest.mark.parametrize("predicted", CLASSES)
@pytest.mark.parametrize(("doubt", "value"), [("low_confidence", True), ("unfamiliar_camera", True), ("other_finding", True)])
def test_any_doubt_is_for_a_specialist(predicted: str, doubt: str, value: bool) -> None:
    assert decide(_answer(predicted), FACTS) == "report"
    assert decide(_answer(predicted, **{doubt: value}), FACTS) == "review"


@pytest.mark.parametrize("predicted", CLASSES)
def test_a_bad_photo_is_retaken_unless_its_haze_may_be_the_disease(predicted: str) -> None:
    expected = "review" if predicted == "cataract" else "retake"
    assert decide(_answer(predicted, gradable=False), FACTS) == expected
    assert decide(_answer(predicted, gradable=False, low_confidence=True), FACTS) == expected
    assert decide(_answer(predicted, out_of_distribution=True), FACTS) == expected
    assert decide(_answer(predicted, out_of_distribution=True, gradable=False), FACTS) == expected


def test_what_is_not_known_is_no_doubt() -> None:
    unknown = dict.fromkeys(("other_finding", "other_finding_score", "gradable", "out_of_distribution", "unfamiliar_camera"))
    assert decide(_answer("normal", **unknown), FACTS) == "report"


@pytest.mark.parametrize(
    ("threshold", "confidence", "expected"), [(0.8, 0.81, "report"), (0.8, 0.79, "review"), (None, 0.999, "review")]
)
def test_only_what_is_promised_is_reported(threshold: float | None, confidence: float, expected: str) -> None:
    facts = replace(FACTS, promise=replace(PROMISE, threshold=threshold))
    assert decide(_answer("glaucoma", confidence), facts) == expected


def test_something_else_makes_a_healthy_answer_less_sure_and_no_other() -> None:
    assert report_score(_answer("normal", 0.9, other_finding_score=0.25)) == pytest.approx(0.675)
    assert report_score(_answer("glaucoma", 0.9, other_finding_score=0.25)) == pytest.approx(0.9)
    assert report_score(_answer("normal", 0.9, other_finding_score=None)) == pytest.approx(0.9)


@pytest.mark.parametrize(("second", "expected"), [(0.2, "review"), (0.1, "report")])
def test_two_diseases_in_one_eye_are_for_a_specialist(second: float, expected: str) -> None:
    facts = replace(FACTS, second_disease=0.15)
    answer = _answer("glaucoma", 0.75) | {
        "prob_cataract": second,
        "prob_diabetic_retinopathy": 0.02,
        "prob_normal": 0.23 - second,
    }
    assert second_disease(answer, CLASSES) == second
    assert decide(answer, facts) == expected
    assert decide(answer, FACTS) == "report"


def test_a_healthy_and_an_ill_answer_are_not_two_diseases() -> None:
    answer = {"prob_normal": 0.5, "prob_ill": 0.5}
    assert second_disease(answer, ("ill", "normal")) == 0


@pytest.mark.parametrize(("logit", "score"), [(0.0, 0.119), (2.0, 0.731), ([[2.0]], 0.731), (-100.0, 0.0), (100.0, 1.0)])
def test_the_score_of_another_finding_is_calibrated(logit: Any, score: float) -> None:
    facts = replace(FACTS, other_finding=OtherFinding(slope=1.5, offset=-2.0, limit=0.5))
    assert other_finding_score(np.float32(logit), facts) == pytest.approx(score, abs=1e-3)
    answer = answer_columns({"output": np.float32([0, 0, 0, 9]), "other_finding": np.float32(logit)}, facts, Statistics())
    assert answer["other_finding"] is (score >= 0.5)
    assert answer["decision"] == ("review" if score >= 0.5 else "report")


def test_a_network_without_the_output_says_nothing_of_other_findings() -> None:
    outputs = {"output": np.float32([0, 0, 0, 9])}
    for facts in (FACTS, replace(FACTS, other_finding=OtherFinding(1.0, 0.0, 0.5))):
        answer = answer_columns(outputs, facts, Statistics())
        assert (answer["other_finding"], answer["other_finding_score"], answer["decision"]) == (None, None, "report")
    extended = outputs | {"other_finding": np.float32(3)}
    assert answer_columns(extended, FACTS, Statistics())["other_finding"] is None
