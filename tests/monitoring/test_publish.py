"""A window's checks as the charts that people look at."""

from typing import Any

import pytest

from eye_disease.monitoring.publish import shares_of_limits
from eye_disease.verdict.check import Check


def _check(stream: str, value: float, limit: float, beyond: bool = False, **changes: Any) -> Check:
    return Check("stream", stream, "ks", value, limit, 100, beyond, **changes)


@pytest.mark.parametrize(
    ("value", "limit", "beyond", "share"),
    [
        (0.05, 0.10, False, 0.5),
        (0.30, 0.10, True, 3.0),
        (0.80, 0.60, False, 0.75),  # a confidence, which must not fall
        (0.30, 0.60, True, 2.0),
        (0.10, 0.10, False, 1.0),
        (0.01, 0.0, True, 100.0),  # nothing was allowed
        (0.0, 0.0, False, 0.0),
    ],
)
def test_one_is_the_limit_whichever_side_is_the_wrong_one(value: float, limit: float, beyond: bool, share: float) -> None:
    assert shares_of_limits([_check("sharpness", value, limit, beyond)]) == {"drift/sharpness": pytest.approx(share)}


def test_the_worst_stands_for_those_of_its_kind_and_sites_are_left_out() -> None:
    checks = [
        _check("sharpness", 0.02, 0.1),
        _check("sharpness", 0.04, 0.1),
        _check("sharpness", 0.9, 0.1, True, site="clinic-a"),
        *(_check(f"embedding_{n}", n / 100, 0.2) for n in range(1, 17)),
        _check("embedding", 0.1, 0.2),
        _check("prob_normal", 0.03, 0.1),
        _check("prob_glaucoma", 0.05, 0.1),
        *(_check(name, 0.01, 0.1) for name in ("red", "green", "blue")),
    ]
    shares = {name: round(share, 3) for name, share in shares_of_limits(checks).items()}
    assert shares == {"drift/sharpness": 0.4, "drift/embedding": 0.8, "drift/probabilities": 0.5, "drift/colour": 0.1}
