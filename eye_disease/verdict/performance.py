"""Whether the answers are still as often right as they were."""

import numpy as np

from eye_disease.profiles.distances import mean_p_value
from eye_disease.profiles.estimate import estimate_performance
from eye_disease.profiles.profile import Profile
from eye_disease.profiles.reference import Reference
from eye_disease.verdict.check import Check, Level
from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.realised import RealisedPerformance


def performance_checks(
    profile: Profile, reference: Reference | None, limits: DriftLimits, realised: RealisedPerformance | None
) -> list[Check]:
    """Estimated accuracy, and realised if labels have come, against what the confidence promised on the reference.

    An estimate that chance explains is nothing to worry about; labels that say so are few, and worth a look.
    """
    usual = reference and estimate_performance(reference.profile)
    estimated = estimate_performance(profile)
    if usual is None or estimated is None:
        return []
    limit = max(usual.accuracy - limits.max_accuracy_drop, 0.0)
    found: list[tuple[str, float, int, Level]] = [("estimated", estimated.accuracy, estimated.n, "ok")]
    if realised is not None and realised.labelled:
        found.append(("realised", realised.correct / realised.labelled, realised.labelled, "warning"))
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
            insignificant=by_chance,
        )
        for statistic, value, n, by_chance in found
    ]
