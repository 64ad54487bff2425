"""Whether the answers are still as often right as they were."""

from dataclasses import dataclass

import numpy as np

from monitoring.checks import Check
from monitoring.limits import DriftLimits
from profiles.estimate import estimate_performance
from profiles.profile import Profile
from profiles.reference import Reference
from profiles.statistics import mean_p_value


@dataclass(frozen=True)
class Realised:
    """What labels say of a window's answers."""

    labelled: int
    correct: int

    def __post_init__(self) -> None:
        if not 0 <= self.correct <= self.labelled:
            raise ValueError(f"correct={self.correct} of labelled={self.labelled}: expected 0 <= correct <= labelled.")


def performance_checks(
    profile: Profile, reference: Reference | None, limits: DriftLimits, realised: Realised | None
) -> list[Check]:
    """Estimated accuracy, and realised if labels have come, against what the confidence promised on the reference."""
    usual = reference and estimate_performance(reference.profile)
    estimated = estimate_performance(profile)
    if usual is None or estimated is None:
        return []
    limit = max(usual.accuracy - limits.max_accuracy_drop, 0.0)
    found = [("estimated", estimated.accuracy, estimated.n)]
    if realised is not None and realised.labelled:
        found.append(("realised", realised.correct / realised.labelled, realised.labelled))
    # A right answer counts 1, a wrong one 0: its deviation on the reference, an upper bound of that of the confidence.
    deviation = np.sqrt(usual.accuracy * (1 - usual.accuracy))
    return [
        Check(
            source="performance",
            stream="accuracy",
            statistic=statistic,
            value=value,
            limit=limit,
            n=n,
            beyond=value < limit,
            p_value=mean_p_value(usual.accuracy - value, deviation, n, usual.n),
            expected=usual.accuracy,
            insignificant="warning",
        )
        for statistic, value, n in found
    ]
