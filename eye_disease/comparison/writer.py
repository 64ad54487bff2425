"""A comparison in MLflow: a run of its own, and tags on the challenger's version."""

from dataclasses import asdict

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from eye_disease.common.mlflow_client import experiment_id, tracking_call
from eye_disease.comparison.compare import Comparison
from eye_disease.comparison.report import Row, metrics, rows, text


def write_comparison(client: MlflowClient, found: Comparison, experiment: str, timeout_seconds: int) -> str:
    """The new run's id. Raises TrackingUnavailableError, which says what is missing."""
    with tracking_call(timeout_seconds, "The comparison is not, or not wholly, in MLflow: "):
        return _write(client, found, experiment_id(client, experiment))


def _write(client: MlflowClient, found: Comparison, experiment_id: str) -> str:
    champion, challenger, decision = found.champion.version, found.challenger.version, found.decision
    tags = {
        "comparison.model": found.model,
        "comparison.champion": champion,
        "comparison.challenger": challenger,
        "comparison.decision": decision.choice,
        MLFLOW_RUN_NOTE: "\n\n".join([f"**{decision.choice}**", *decision.reasons, *found.notes]),
    }
    name = f"comparison {found.model} {champion} {challenger}"
    run_id: str = client.create_run(experiment_id, tags=tags, run_name=name).info.run_id
    time = int(found.made.timestamp() * 1000)
    client.log_batch(run_id, [Metric(name, value, time, 0) for name, value in metrics(found).items()])
    client.log_text(run_id, text(found), "comparison.txt")
    table = {name: [getattr(row, name) for row in rows(found)] for name in Row._fields}
    client.log_table(run_id, table, "comparison.json")
    client.log_dict(run_id, asdict(decision) | {"outcomes": asdict(found.outcomes)}, "decision.json")
    client.set_terminated(run_id)
    if challenger.isdecimal():  # not `bundled` or `unregistered`: no registry holds those
        tagged = {"comparison": f"{decision.choice} (against version {champion})", "comparison_run": run_id}
        for key, value in (tagged | {"comparison_at": found.made.isoformat(timespec="seconds")}).items():
            client.set_model_version_tag(found.model, challenger, key, value)
    return run_id
