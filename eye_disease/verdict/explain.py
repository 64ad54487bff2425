"""A verdict in two sentences: what is wrong, and what to do."""

from eye_disease.common.text import clean
from eye_disease.verdict.check import LONGEST_PROBLEM, Check
from eye_disease.verdict.verdict import Verdict

_ACTIONS = {
    "probe": "Look at the server's log, restart it or roll back, and check what it answered since it was last well.",
    "error_code": "Look at what the clients send: the codes say what is wrong with their photos.",
    "inference_time_ms": "Give the server more cores or workers, or send smaller photos.",
    "sequence": "Check disk and permissions of INFERENCE_LOG_DIR: what is lost cannot be judged.",
    "accuracy": "Have a specialist check these answers, then roll back or retrain with the labelled photos.",
    "report": "Until the cause is known, have a specialist look at reported answers too; then retrain with the labelled photos "
    "or roll back.",
    "acquisition": "Check camera, light, operator and export of the photos{where}; until then have a specialist review the "
    "answers.",
    "prevalence": "Check whether the patient mix has changed; if so, choose a newer reference. The photos "
    "themselves have not changed.",
    "rule": "Look at the photos of this window and at the report's plots; until the cause is known, have a specialist "
    "review the answers.",
}
_SHOWN_SITES = 3
_STREAMS = {"acquisition": "The photos are not like those of the reference", "prevalence": "The mix of classes has changed"}


def explain(verdict: Verdict) -> tuple[str, str]:
    """(problem, action), a sentence each."""
    if verdict.status == "insufficient_data":
        return (
            f"Only {verdict.n} answers arrived before the window's time limit: too few to judge.",
            "Check that the clients send their photos; if so few are expected, no action is needed.",
        )
    if not verdict.reasons:
        against = f"like those of the reference {clean(verdict.reference)}" if verdict.reference else "within the limits"
        return f"The {verdict.n:,} answers of the last window are {against}.", "No action needed."
    if verdict.status == "warning":
        problem = f"A limit was exceeded, but within chance variation or without harm so far: {verdict.reasons[0]}."
        return problem, "Watch the next windows."
    return _drift(verdict)


def _drift(verdict: Verdict) -> tuple[str, str]:
    """Of the most telling reason: a broken service makes everything else doubtful, and a shift explains what rules find."""
    bad = [check for check in verdict.reasons if check.level == "drift"]
    service = [check for check in bad if check.source == "service"]
    if service:
        return f"The service is unhealthy: {_service_problem(service[0])}.", _ACTIONS[service[0].stream]
    streams = [check for check in bad if check.source in ("stream", "lasting")]
    if streams and verdict.kind:
        sites = [clean(site) or "(none)" for site, kind in verdict.sites.items() if kind == verdict.kind]
        more = f" and {len(sites) - _SHOWN_SITES} more" if len(sites) > _SHOWN_SITES else ""
        where = f" of site {', '.join(sites[:_SHOWN_SITES])}{more}" if sites else ""
        since = f", {verdict.since}" if verdict.since else ""
        problem = f"{_STREAMS[verdict.kind]} ({verdict.kind} shift{where}){since}: {streams[0]}."
        return problem, _ACTIONS[verdict.kind].format(where=where)
    first = bad[0]
    known = _ACTIONS.get(first.stream, _ACTIONS["rule"])
    return f"The answers are beyond a limit: {first}.", known


def _service_problem(check: Check) -> str:
    return clean(check.problem, LONGEST_PROBLEM).rstrip(".") if check.stream == "probe" and check.problem else str(check)
