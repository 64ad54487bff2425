"""A judged window as MLflow gets it: metrics, tags, the run's description."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from eye_disease.common.text import clean, one_line
from eye_disease.monitoring.actions import ActionOutcome
from eye_disease.monitoring.alerts import Alert, Event
from eye_disease.monitoring.judged_window import Findings
from eye_disease.monitoring.metrics import Point, prediction_points, window_points
from eye_disease.monitoring.spool import Batch
from eye_disease.monitoring.window import Window
from eye_disease.verdict.check import Check

_FAR_BEYOND = 100.0
"""Share of a limit that stands for all above it: a limit of 0 has no other."""
_EVENTS: dict[str, Event] = {"raise": "raised", "clear": "cleared"}


def batch_id(model: str, version: str, number: int) -> str:
    """Of the batch of a window."""
    return f"{model}-{version}-{number:08d}"


def make_batch(findings: Findings) -> Batch:
    """Tags and description."""
    verdict = findings.verdict
    tags = {
        "drift_status": verdict.status,
        "drift_alarm": "raised" if findings.alarm.raised else "none",
        "drift_checked_at": findings.judged.isoformat(timespec="seconds"),
    }
    run_tags = tags | {
        "drift_kind": verdict.kind or "none",
        "drift_since": verdict.since.start.isoformat(timespec="seconds") if verdict.since else "none",
        "drift_reference": clean(verdict.reference or "none"),
    }
    note = "\n\n".join([f"**{verdict.status}**: {findings.problem} {findings.action}", f"({findings.span})", *findings.notes])
    return Batch(
        batch_id(findings.model, findings.version, findings.number), findings.model, findings.version, run_tags, tags, note
    )


def points(findings: Findings, window: Window, first_step: int) -> Iterator[Point]:
    """Of the window's predictions, each a step of its own from `first_step` on, and of the window, whose step is its number."""
    steps = [first_step + index for index in window.shown["index"].to_pylist()]
    yield from prediction_points(window.shown, findings.profile.layout.classes, steps)
    end = findings.verdict.last or findings.judged  # an empty window has no data whose time could be taken
    yield from window_points(window_metrics(findings), int(end.timestamp() * 1000), findings.number)


def window_metrics(findings: Findings) -> dict[str, float | None]:
    """Name -> value; None where there is nothing to say."""
    verdict, whole, realised = findings.verdict, findings.profile.whole, findings.realised
    low, flagged = whole.flag("low_confidence")
    figures: dict[str, float | None] = {
        "session_avg_confidence": whole.mean_confidence,
        "session_avg_inference_time_ms": whole.mean_latency_ms,
        "session_predictions": whole.answered + whole.failed,
        "recent_low_confidence_ratio": low / flagged if flagged else None,
        "drift_detected": float(verdict.status == "drift"),
        "drift_lasting": verdict.lasting,
        "error_count": whole.failed,
        "model_load_time_seconds": findings.load_time_seconds,
        "health_check_response_time_ms": findings.health.response_time_ms if findings.health else None,
        "estimated_accuracy": verdict.estimate.accuracy if verdict.estimate else None,
        "realised_accuracy": realised.accuracy.value if realised and realised.accuracy else None,
        **_reported(findings),
        "realised_calibration_error": realised.calibration_error if realised else None,
    }
    return figures | shares_of_limits(verdict.checks)


def shares_of_limits(checks: Iterable[Check]) -> dict[str, float | None]:
    """`drift/<stream>` -> how far it is on its way to its limit, 1 and more: beyond it; of several checks the worst, of the
    whole window. Streams of one kind share a chart: a person sees few enough to look at. Each by itself, with statistic and
    limit, is in the report and in `checks.csv`.
    """
    shares: dict[str, float | None] = {}
    for check in checks:
        if check.site is None and check.source != "lasting":  # which have `drift_lasting`
            name = f"drift/{_chart(check.stream)}"
            share = check.excess if check.value or check.limit else 0.0  # none of what must not be
            shares[name] = max(shares.get(name) or 0.0, min(share, _FAR_BEYOND))
    return shares


def _reported(findings: Findings) -> dict[str, float | None]:
    """What labels say of reported answers, and what was promised of them; the limits are those of 95 % intervals."""
    realised, promise = findings.realised, findings.promise
    shares = {
        "realised_error_among_reported": realised.error_among_reported if realised else None,
        "realised_missed": realised.missed if realised else None,
    }
    figures: dict[str, float | None] = {"promised_error_among_reported": promise.max_error if promise else None}
    for name, share in shares.items():
        figures |= {
            name: share.value if share else None,
            f"{name}_low": share.low if share else None,
            f"{name}_high": share.high if share else None,
        }
    return figures


def _chart(stream: str) -> str:
    together = {"embedding_": "embedding", "prob_": "probabilities"}
    kind = next((chart for start, chart in together.items() if stream.startswith(start)), stream)
    return "colour" if kind in ("red", "green", "blue") else kind


def make_alert(findings: Findings) -> Alert | None:
    """What people are told of this window; None if the alarm was neither raised nor cleared."""
    if findings.event is None:
        return None
    return Alert(
        _EVENTS[findings.event], findings.model, findings.version, findings.span, findings.problem, findings.action, None
    )


def action_batch(outcome: ActionOutcome, now: datetime) -> Batch:
    """What the version's run is told of a request: a tag, no metrics."""
    request = outcome.request
    when = f"{now.isoformat(timespec='seconds')}, window {request.window}"
    text = f"{outcome.state} {when}: {one_line(request.reason)} {outcome.sentence}"
    batch = f"{batch_id(request.model, request.version, request.window)}-{request.step}-{outcome.state}"
    return Batch(batch, request.model, request.version, {f"drift_{request.step}": text})


def action_alert(outcome: ActionOutcome) -> Alert | None:
    """What people are told of a request; None while it is under way, and of one that was not needed any more."""
    if outcome.state in ("started", "dropped"):
        return None
    request, done = outcome.request, outcome.state == "done"
    event: Event
    if request.step == "rollback":
        event, problem = ("rolled_back" if done else "not_rolled_back"), outcome.sentence
        action = (
            "A server answers with the version it was started with: restart it."
            if done
            else "Look at the version and roll back by hand: python register.py rollback."
        )
    else:
        event, problem = ("command_done" if done else "command_failed"), f"DRIFT_ON_RAISE: {outcome.sentence}"
        action = "Look at what it has made." if done else "Find out why; it is not started again for this alarm."
    return Alert(event, request.model, request.version, f"window {request.window}: {request.reason}", problem, action, None)
