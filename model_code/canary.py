"""The canary: a photo in the package whose answer is known. A served model that answers it otherwise is broken."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_code.package import CANARY_ANSWER, CANARY_PHOTO

TOLERANCE = 0.01
"""Largest difference of a number that counts as the same answer; processors round differently."""
COMPARED = ("predicted_class", "confidence", "decision", "gradable", "out_of_distribution", "ood_score", "other_finding_score")
"""Beside every probability. The scores tell photos apart that the network is equally sure of."""


def canary_photo(package: Path) -> bytes:
    """The canary's image file."""
    return (package / CANARY_PHOTO).read_bytes()


def expected_answer(package: Path) -> dict[str, Any]:
    """The columns that an answer to the canary must have."""
    answer: dict[str, Any] = json.loads((package / CANARY_ANSWER).read_text())
    return answer


def write_expected_answer(package: Path, answer: Mapping[str, Any]) -> None:
    """Keep the compared columns of an answer as the expected one."""
    compared = {name: value for name, value in answer.items() if name in COMPARED or name.startswith("prob_")}
    (package / CANARY_ANSWER).write_text(json.dumps(compared, indent=2) + "\n")


def differences(answer: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """What differs between an answer and the expected one, a sentence each; empty if they agree."""
    sentences = []
    for name, value in expected.items():
        actual = answer.get(name)
        both_numbers = isinstance(value, float) and isinstance(actual, (int, float))
        if not (abs(actual - value) <= TOLERANCE if both_numbers else actual == value):
            sentences.append(f"{name} is {actual!r}, expected {value!r}")
    return sentences
