"""Accuracy, estimated and realised, against the reference."""

import numpy as np
from scipy.stats import binomtest

from eye_disease.profiles.distances import mean_p_value
from eye_disease.profiles.estimate import estimate_performance
from eye_disease.profiles.profile import Profile
from eye_disease.profiles.reference import Reference
from eye_disease.verdict.check import Check, Level
from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.realised import RealisedPerformance
from model_code.promise import Promise


def promise_checks(promise: Promise | None, realised: RealisedPerformance | None) -> list[Check]:
    """Errors among the reported answers that have a label, against what the package promises of `report`.

    Drift only where chance does not explain that they are more: where the exact lower bound of their share lies above the
    promise. A promise that was given with a certainty below 1 may turn out broken although nothing has changed.
    """
    if promise is None or realised is None or realised.error_among_reported is None:
        return []
    share = realised.error_among_reported
    wrong = round(share.value * share.n)
    return [
        Check(
            source="performance",
            stream="report",
            statistic="error_share",
            value=share.value,
            limit=promise.max_error,
            n=share.n,
            beyond=share.value > promise.max_error,
            p_value=float(binomtest(wrong, share.n, promise.max_error, alternative="greater").pvalue),
            expected=promise.error.value if promise.error else None,
            insignificant="warning",
            problem=f"labels show {share.low:.3f} to {share.high:.3f} with 95 % confidence",
        )
    ]


def performance_checks(
    profile: Profile, reference: Reference | None, limits: DriftLimits, realised: RealisedPerformance | None
) -> list[Check]:
    """Estimated accuracy, and realised if labels have come, against what the confidence promised on the reference.

    An estimate that chance explains is nothing to worry about; labels that say so are few, and worth a look.
    """
    promised = estimate_performance(reference.profile) if reference else None
    estimated = estimate_performance(profile)
    if promised is None or estimated is None:
        return []
    limit = max(promised.accuracy - limits.max_accuracy_drop, 0.0)
    figures: list[tuple[str, float, int, Level]] = [("estimated", estimated.accuracy, estimated.n, "ok")]
    if realised is not None and realised.labelled:
        figures.append(("realised", realised.correct / realised.labelled, realised.labelled, "warning"))
    # A right answer counts 1, a wrong one 0: its deviation on the reference, an upper bound of that of the confidence.
    deviation = np.sqrt(promised.accuracy * (1 - promised.accuracy))
    return [
        Check(
            source="performance",
            stream="accuracy",
            statistic=statistic,
            value=value,
            limit=limit,
            n=n,
            beyond=value < limit,
            p_value=mean_p_value(promised.accuracy - value, deviation, n, promised.n),
            expected=promised.accuracy,
            insignificant=by_chance,
        )
        for statistic, value, n, by_chance in figures
    ]
