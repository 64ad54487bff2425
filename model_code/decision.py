"""From what the network says of a photo to an answer, and from the answer to its decision: report, review or retake.

`report` is a promise (model_code.promise), `retake` is for what a new photo would mend, and everything else is `review`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from model_code.familiarity import is_gradable, is_unfamiliar, ood_score
from model_code.package import ModelFacts, Statistics

HEALTHY = "normal"
"""The class of eyes without a disease: reporting it wrongly is a missed disease. Models without such a class miss nothing."""
HAZY = "cataract"
"""The class that looks like a bad photo: its haze stays in the next photo too, so it is never sent to `retake` for it."""


def answer_columns(outputs: Mapping[str, np.ndarray], facts: ModelFacts, statistics: Statistics) -> dict[str, Any]:
    """The network's outputs for one photo (model_code.runtime.Infer) -> the answer's columns that follow from them."""
    probabilities = calibrated(outputs["output"], facts)
    best = int(probabilities.argmax())
    style = outputs.get("style")
    score = None if style is None else ood_score(style, statistics)
    other = other_finding_score(outputs.get("other_finding"), facts)
    answer = {
        "predicted_class": facts.classes[best],
        "confidence": float(probabilities[best]),
        **{f"prob_{name}": float(p) for name, p in zip(facts.classes, probabilities, strict=True)},
        "decision": None,
        "low_confidence": bool(probabilities[best] < facts.low_confidence),
        "other_finding": None if other is None or facts.other_finding is None else other >= facts.other_finding.limit,
        "other_finding_score": other,
        "gradable": None if style is None else is_gradable(style, statistics),
        "out_of_distribution": None if score is None else score > 1,
        "ood_score": score,
        "unfamiliar_camera": is_unfamiliar(score, statistics),
    }
    return answer | {"decision": decide(answer, facts)}


def decide(answer: Mapping[str, Any], facts: ModelFacts) -> str:
    """The decision (of schema.DECISIONS) that the other columns of an answer lead to."""
    hazy = answer["predicted_class"] == HAZY
    if (answer["out_of_distribution"] or answer["gradable"] is False) and not hazy:
        return "retake"
    doubts = (
        answer["out_of_distribution"],
        answer["low_confidence"],
        answer["unfamiliar_camera"],
        answer["other_finding"],
        answer["gradable"] is False,
        has_second_disease(answer, facts),
    )
    return "review" if any(doubts) or not _is_promised(answer, facts) else "report"


def report_score(answer: Mapping[str, Any]) -> float:
    """How sure an answer is, 0..1: its confidence; for a healthy eye also that nothing outside the classes was found."""
    other = answer["other_finding_score"] if answer["predicted_class"] == HEALTHY else None
    return float(answer["confidence"] * (1 - (other or 0.0)))


def has_second_disease(answer: Mapping[str, Any], facts: ModelFacts) -> bool:
    """Whether two diseases are likely in one eye, by the package's limit; False where it has none."""
    return facts.second_disease is not None and second_disease(answer, facts.classes) >= facts.second_disease


def second_disease(answer: Mapping[str, Any], classes: tuple[str, ...]) -> float:
    """The second largest probability of a disease; 0 where there are fewer than two classes of disease."""
    diseases = sorted(answer[f"prob_{name}"] for name in classes if name != HEALTHY)
    return diseases[-2] if len(diseases) > 1 else 0.0


def calibrated(output: np.ndarray, facts: ModelFacts) -> np.ndarray:
    """Network output, float32 (C,) -> calibrated probabilities, float64 (C,)."""
    output = output.astype(np.float64)
    logits = output if facts.output_kind == "logits" else np.log(output.clip(1e-12))
    exponent = np.exp((logits - logits.max()) / facts.temperature)
    return np.asarray(exponent / exponent.sum())


def other_finding_score(logit: np.ndarray | None, facts: ModelFacts) -> float | None:
    """The calibrated chance of a finding outside the classes, 0..1; None where the network or the package lacks it."""
    if logit is None or facts.other_finding is None:
        return None
    fitted = facts.other_finding
    return float(1 / (1 + np.exp(-(fitted.slope * float(np.ravel(logit)[0]) + fitted.offset))))


def _is_promised(answer: Mapping[str, Any], facts: ModelFacts) -> bool:
    if facts.promise is None:
        return True
    return facts.promise.threshold is not None and report_score(answer) >= facts.promise.threshold
