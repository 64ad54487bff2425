"""Writes batches to MLflow: one long-lived monitoring run per model version, and tags on that version."""

import logging
import time

from mlflow import MlflowClient
from mlflow.entities import Metric, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from eye_disease.common.errors import TrackingUnavailableError
from eye_disease.common.mlflow_client import METRICS_PER_REQUEST, MISSING, experiment_id, kind_of, run_page, tracking_call
from eye_disease.common.text import clean
from eye_disease.monitoring.report import REPORT_FILE
from eye_disease.monitoring.spool import Waiting

_logger = logging.getLogger(__name__)
_MODEL_TAG, _VERSION_TAG, _SENT_TAG = "monitoring.model", "monitoring.version", "monitoring.sent"
_CHUNK = METRICS_PER_REQUEST
_EVENTS = ("drift_status", "drift_alarm")
"""Tags that trigger registry webhooks: set only when they change."""


class MlflowWriter:
    """A `eye_disease.monitoring.spool.Writer`. timeout_seconds: for one request, of which a failing one is tried twice."""

    def __init__(self, client: MlflowClient, experiment: str, timeout_seconds: int) -> None:
        self._client = client
        self._experiment = experiment
        self._timeout_seconds = timeout_seconds

    def write(self, waiting: Waiting, deadline: float) -> None:
        """As Writer.write. What the server has already of a batch is not sent again."""
        batch = waiting.batch
        with tracking_call(self._timeout_seconds):
            run_id = self.run_id(batch.model, batch.version)
            try:
                self._write(waiting, run_id, deadline)
            except MlflowException as error:
                if kind_of(error) is not TrackingUnavailableError:  # one that is down need not be asked more
                    self._require_run(run_id)
                raise

    def run_id(self, model: str, version: str) -> str:
        """The monitoring run of a model version, made if there is none. Raises MlflowException, TrackingUnavailableError.

        Of two that were made at the same time everybody takes the older one.
        """
        experiment = experiment_id(self._client, self._experiment)
        if runs := self._runs(experiment, model, version):
            return runs[0]
        if deleted := self._runs(experiment, model, version, ViewType.DELETED_ONLY):
            _logger.warning(
                "The monitoring run of %s version %s was deleted: a new one is made. The old one comes back with: "
                "mlflow runs restore --run-id %s",
                clean(model),
                clean(version),
                deleted[-1],
            )
        tags = {_MODEL_TAG: model, _VERSION_TAG: version}
        name = f"monitoring {clean(model)} {clean(version)}"
        new_run = str(self._client.create_run(experiment, tags=tags, run_name=name).info.run_id)
        first = self._runs(experiment, model, version)[0]
        if first != new_run:
            self._client.delete_run(new_run)
        return first

    def run_page(self, model: str, version: str) -> str | None:
        """Address of the monitoring run's report in MLflow's UI; None where there is no server, or it does not answer."""
        if not self._client.tracking_uri.startswith("http"):
            return None
        try:
            with tracking_call(self._timeout_seconds):
                run_id = self.run_id(model, version)
                experiment = experiment_id(self._client, self._experiment)
        except TrackingUnavailableError as error:
            _logger.warning("Sending the alert without a link to the report: %s", error)
            return None
        return run_page(self._client.tracking_uri, experiment, run_id, REPORT_FILE)

    def known_run_page(self, model: str, version: str) -> str | None:
        """As `run_page`, and None where nothing was written yet. Raises TrackingUnavailableError."""
        with tracking_call(self._timeout_seconds):
            experiment = experiment_id(self._client, self._experiment)
            runs = self._runs(experiment, model, version)
        return run_page(self._client.tracking_uri, experiment, runs[0], REPORT_FILE) if runs else None

    def _write(self, waiting: Waiting, run_id: str, deadline: float) -> None:
        batch = waiting.batch
        key = waiting.key
        sent = self._sent(run_id, key)
        for chunk in waiting.points(sent, _CHUNK):
            sent += len(chunk)
            # In one call: the server stores the tag after the metrics, and drops metrics that it has already.
            self._client.log_batch(run_id, [Metric(*point) for point in chunk], tags=[_sent_tag(key, sent)])
            if time.monotonic() > deadline:
                raise TrackingUnavailableError(f"timed out after sending {sent:,} metrics of batch {batch.id}.")
        if waiting.artifacts.is_dir() and any(waiting.artifacts.iterdir()):
            self._client.log_artifacts(run_id, str(waiting.artifacts))
        tags = batch.run_tags | ({} if batch.note is None else {MLFLOW_RUN_NOTE: batch.note})
        self._client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        self._client.set_terminated(run_id)  # its end is the last time that something was written
        if batch.version.isdecimal():  # not `bundled` or `unregistered`: no registry holds those
            self._tag_version(batch.model, batch.version, batch.version_tags)

    def _tag_version(self, model: str, version: str, tags: dict[str, str]) -> None:
        try:
            current = self._client.get_model_version(model, version).tags
        except MlflowException as error:
            if error.error_code != MISSING:
                raise
            _logger.warning("%s version %s is no longer in the registry: its tags are skipped.", clean(model), version)
            return
        for name, value in tags.items():
            if name not in _EVENTS or current.get(name) != value:
                self._client.set_model_version_tag(model, version, name, value)

    def _sent(self, run_id: str, key: str) -> int:
        """How many metrics of this very batch the run holds."""
        last, _, count = self._client.get_run(run_id).data.tags.get(_SENT_TAG, "").rpartition(" ")
        return int(count) if last == key else 0

    def _require_run(self, run_id: str) -> None:
        """What a deleted run or experiment refuses is no fault of the batch. Raises TrackingUnavailableError for such a run."""
        experiment_id(self._client, self._experiment)
        if self._client.get_run(run_id).info.lifecycle_stage == "deleted":
            raise TrackingUnavailableError(
                f"The monitoring run was deleted meanwhile. Restore it: mlflow runs restore --run-id {run_id}. "
                "If not, a new one is made."
            )

    def _runs(self, experiment: str, model: str, version: str, view: int = ViewType.ACTIVE_ONLY) -> list[str]:
        """Ids, the oldest first."""
        wanted = {_MODEL_TAG: model, _VERSION_TAG: version}
        # A name with a quote cannot be asked for in every case; what comes is looked at again.
        conditions = [f"tags.`{tag}` = '{value}'" for tag, value in wanted.items() if "'" not in value]
        runs = self._client.search_runs([experiment], " and ".join(conditions), view)
        matching = [run for run in runs if wanted.items() <= run.data.tags.items()]
        return [run.info.run_id for run in sorted(matching, key=_age)]


def _age(run: Run) -> tuple[int, str]:
    return run.info.start_time, run.info.run_id


def _sent_tag(key: str, count: int) -> RunTag:
    return RunTag(_SENT_TAG, f"{key} {count}")
