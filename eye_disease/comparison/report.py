"""A comparison as text, as a table and as metrics; in MLflow a run of its own, and tags on the challenger's version."""

from dataclasses import asdict
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from eye_disease.common.mlflow_client import experiment_id, tracking_call
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


def rows(comparison: Comparison) -> list[Row]:
    """Side by side; shares 0..1, times in milliseconds."""
    ours, theirs = _figures(comparison.champion), _figures(comparison.challenger)
    return [Row(name, ours.get(name), theirs.get(name)) for name in dict.fromkeys([*ours, *theirs])]


def metrics(comparison: Comparison) -> dict[str, float]:
    """Name -> value, for MLflow."""
    decision = comparison.decision
    values = {
        "agreement": comparison.agreement.value if comparison.agreement else None,
        "pairs": comparison.agreement.n if comparison.agreement else 0,
        "labelled_pairs": comparison.outcomes.pairs,
        "difference_low": decision.difference[0],
        "difference_high": decision.difference[1],
        "evidence_for": decision.evidence_for,
        "evidence_against": decision.evidence_against,
        "evidence_needed": decision.needed,
        "mcnemar_p_value": comparison.outcomes.mcnemar_p_value,
    }
    for row in rows(comparison):
        values |= {f"champion/{row.figure}": row.champion, f"challenger/{row.figure}": row.challenger}
    return {metric_name(name): float(value) for name, value in values.items() if value is not None}


def text(comparison: Comparison) -> str:
    """What the command prints."""
    decision, same = comparison.decision, comparison.agreement
    agreed = f"{_shown(same.value)} of {same.n:,} photos that both answered" if same else "-"
    lines = [
        f"{clean(comparison.model)}: champion version {clean(comparison.champion.version)}, "
        f"challenger version {clean(comparison.challenger.version)}",
        f"Served together {comparison.start:%Y-%m-%d %H:%M} to {comparison.end:%Y-%m-%d %H:%M} UTC; "
        f"roles {_roles(comparison.champion)} and {_roles(comparison.challenger)}",
        "",
        f"{'':<28}{'champion':>12}{'challenger':>12}",
        *(
            f"{one_line(row.figure.replace('_', ' '), 27):<28}{_shown(row.champion):>12}{_shown(row.challenger):>12}"
            for row in rows(comparison)
        ),
        "",
        f"Same class: {agreed}.",
        f"McNemar's test on the labelled pairs: p = {comparison.outcomes.mcnemar_p_value:.3g} (right for a single look only).",
        f"Evidence for the challenger {decision.evidence_for:.2f}, against it {decision.evidence_against:.2f}; "
        f"{decision.needed:.2f} decides (natural logarithms, right at every look).",
        *(f"Note: {one_line(note)}" for note in comparison.notes),
        "",
        f"Decision: {decision.choice}",
        *(f"  {one_line(reason)}" for reason in decision.reasons),
    ]
    return "\n".join(lines)


def write_comparison(client: MlflowClient, comparison: Comparison, experiment: str, timeout_seconds: int) -> str:
    """The new run's id. Raises TrackingUnavailableError, which says what is missing."""
    with tracking_call(timeout_seconds, "The comparison is not, or not wholly, in MLflow: "):
        return _write(client, comparison, experiment_id(client, experiment))


def _write(client: MlflowClient, comparison: Comparison, experiment_id: str) -> str:
    champion, challenger, decision = comparison.champion.version, comparison.challenger.version, comparison.decision
    tags = {
        "comparison.model": comparison.model,
        "comparison.champion": champion,
        "comparison.challenger": challenger,
        "comparison.decision": decision.choice,
        MLFLOW_RUN_NOTE: "\n\n".join([f"**{decision.choice}**", *decision.reasons, *comparison.notes]),
    }
    name = f"comparison {comparison.model} {champion} {challenger}"
    run_id: str = client.create_run(experiment_id, tags=tags, run_name=name).info.run_id
    time = int(comparison.made.timestamp() * 1000)
    client.log_batch(run_id, [Metric(name, value, time, 0) for name, value in metrics(comparison).items()])
    client.log_text(run_id, text(comparison), "comparison.txt")
    table = {name: [getattr(row, name) for row in rows(comparison)] for name in Row._fields}
    client.log_table(run_id, table, "comparison.json")
    client.log_dict(run_id, asdict(decision) | {"outcomes": asdict(comparison.outcomes)}, "decision.json")
    client.set_terminated(run_id)
    if challenger.isdecimal():  # not `bundled` or `unregistered`: no registry holds those
        tagged = {"comparison": f"{decision.choice} (against version {champion})", "comparison_run": run_id}
        for key, value in (tagged | {"comparison_at": comparison.made.isoformat(timespec="seconds")}).items():
            client.set_model_version_tag(comparison.model, challenger, key, value)
    return run_id


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
