"""A comparison as text, as a table and as metrics."""

from typing import NamedTuple

from eye_disease.common.text import clean, one_line
from eye_disease.comparison.compare import Comparison, Side
from eye_disease.evaluation.shares import Share
from eye_disease.monitoring.metrics import metric_name
from model_code.schema import DECISIONS


class Row(NamedTuple):
    """A figure of both versions; None where a version has none."""

    figure: str
    champion: float | None
    challenger: float | None


def rows(found: Comparison) -> list[Row]:
    """Side by side; shares 0..1, times in milliseconds."""
    ours, theirs = _figures(found.champion), _figures(found.challenger)
    return [Row(name, ours.get(name), theirs.get(name)) for name in dict.fromkeys([*ours, *theirs])]


def metrics(found: Comparison) -> dict[str, float]:
    """Name -> value, for MLflow."""
    decision = found.decision
    values = {
        "agreement": found.agreement.value if found.agreement else None,
        "pairs": found.agreement.n if found.agreement else 0,
        "labelled_pairs": found.outcomes.pairs,
        "difference_low": decision.difference[0],
        "difference_high": decision.difference[1],
        "evidence_for": decision.evidence_for,
        "evidence_against": decision.evidence_against,
        "evidence_needed": decision.needed,
        "mcnemar_p_value": found.outcomes.mcnemar_p_value,
    }
    for row in rows(found):
        values |= {f"champion/{row.figure}": row.champion, f"challenger/{row.figure}": row.challenger}
    return {metric_name(name): float(value) for name, value in values.items() if value is not None}


def text(found: Comparison) -> str:
    """What the command prints."""
    decision = found.decision
    agreed = f"{_shown(found.agreement.value)} of {found.agreement.n:,} photos that both answered" if found.agreement else "-"
    lines = [
        f"{clean(found.model)}: champion version {clean(found.champion.version)}, "
        f"challenger version {clean(found.challenger.version)}",
        f"Served together {found.start:%Y-%m-%d %H:%M} to {found.end:%Y-%m-%d %H:%M} UTC; "
        f"roles {_roles(found.champion)} and {_roles(found.challenger)}",
        "",
        f"{'':<28}{'champion':>12}{'challenger':>12}",
        *(
            f"{one_line(row.figure.replace('_', ' '), 27):<28}{_shown(row.champion):>12}{_shown(row.challenger):>12}"
            for row in rows(found)
        ),
        "",
        f"Same class: {agreed}.",
        f"McNemar's test on the labelled pairs: p = {found.outcomes.mcnemar_p_value:.3g} (right for a single look only).",
        f"Evidence for the challenger {decision.evidence_for:.2f}, against it {decision.evidence_against:.2f}; "
        f"{decision.needed:.2f} decides (natural logarithms, right at every look).",
        *(f"Note: {one_line(note)}" for note in found.notes),
        "",
        f"Decision: {decision.choice}",
        *(f"  {one_line(reason)}" for reason in decision.reasons),
    ]
    return "\n".join(lines)


def _figures(side: Side) -> dict[str, float | None]:
    whole, realised = side.profile.whole, side.realised
    records = whole.answered + whole.failed
    low, flagged = whole.flag("low_confidence")
    figures: dict[str, float | None] = {
        "records": records,
        "error_share": whole.failed / records if records else None,
        "mean_confidence": whole.mean_confidence,
        "low_confidence_share": low / flagged if flagged else None,
        "mean_inference_time_ms": whole.mean_latency_ms,
        "p99_inference_time_ms": whole.latency_quantile(0.99),
    }
    if whole.answered:
        figures |= {f"decision_{name}_share": whole.decisions.get(name, 0) / whole.answered for name in DECISIONS}
        classes = zip(side.profile.layout.classes, whole.classes.tolist(), strict=True)
        figures |= {f"class_{name}_share": count / whole.answered for name, count in classes}
    figures |= {"labelled": realised.labelled, **_with_interval("accuracy", realised.accuracy)}
    figures |= {f"recall_{name}": share.value for name, share in realised.recall.items()}
    return figures | {"calibration_error": realised.calibration_error}


def _with_interval(name: str, share: Share | None) -> dict[str, float | None]:
    return {} if share is None else {name: share.value, f"{name}_95_low": share.low, f"{name}_95_high": share.high}


def _roles(side: Side) -> str:
    return " and ".join(side.roles) or "not recorded"


def _shown(value: float | None) -> str:
    """Numbers of things whole, times to the millisecond, the rest to three digits."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if value >= 100 else f"{value:.3f}"
