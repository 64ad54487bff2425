"""Performance without labels, from calibrated confidence.

Confidence-based performance estimation (Garg et al., ICLR 2022, call its accuracy AC; NannyML: CBPE). It is right as far as the
confidence is calibrated on the window's photos: it is blind to concept drift, and too high on photos the network misjudges.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from eye_disease.profiles.profile import Profile
from eye_disease.profiles.tally import FIXED_POINT

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """Expected figures of a window; shares 0..1."""

    accuracy: float
    low: float
    high: float
    """Interval that holds the window's true accuracy with probability LEVEL if the confidence is calibrated"""
    precision: dict[str, float]
    """Class -> expected share of the class's answers that are right; classes never answered are left out"""
    recall: dict[str, float]
    """Class -> expected share of its photos that are found; classes that the window does not expect are left out"""
    n: int


def estimate_performance(profile: Profile) -> Estimate | None:
    """From a profile alone; None without answers.

    Given their confidences c, the right answers are independent with probability c: the interval is the normal one of their
    sum, whose variance is the sum of c (1 - c).
    """
    tally, layout = profile.whole, profile.layout
    n = tally.answered
    if n == 0:
        return None
    right = tally.class_confidence.astype(np.float64) / FIXED_POINT
    accuracy = right.sum() / n
    variance = max(right.sum() - tally.confidence_squares / FIXED_POINT, 0.0) / n**2
    half = norm.ppf((1 + LEVEL) / 2) * np.sqrt(variance)
    means = tally.means(layout)
    expected = {name: means.get(f"prob_{name}", 0.0) * n for name in layout.classes}
    by_class = dict(zip(layout.classes, zip(right.tolist(), tally.classes.tolist(), strict=True), strict=True))
    return Estimate(
        accuracy=float(accuracy),
        low=float(max(accuracy - half, 0)),
        high=float(min(accuracy + half, 1)),
        precision={name: hits / count for name, (hits, count) in by_class.items() if count},
        recall={name: min(by_class[name][0] / total, 1.0) for name, total in expected.items() if total > 0},
        n=n,
    )
