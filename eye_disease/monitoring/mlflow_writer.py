"""Writes batches to MLflow: one long-lived monitoring run per model version, and tags on that version."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE
from requests.exceptions import RequestException

from eye_disease.common.errors import TrackingUnavailableError
from eye_disease.monitoring.spool import TrackingRefusedError, Waiting

_logger = logging.getLogger(__name__)
_MODEL_TAG, _VERSION_TAG, _SENT_TAG = "monitoring.model", "monitoring.version", "monitoring.sent"
_CHUNK = 1000
"""Metrics that MLflow takes in one call."""
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE")
_EVENTS = ("drift_status", "drift_alarm")
"""Tags whose setting others are told of (registry webhooks): set only when they change."""


class MlflowWriter:
    """A `eye_disease.monitoring.spool.Writer`. timeout_seconds: for one request, of which a failing one is tried twice."""

    def __init__(self, client: MlflowClient, experiment: str, timeout_seconds: int) -> None:
        self._client = client
        self._experiment = experiment
        self._timeout_seconds = timeout_seconds

    def write(self, waiting: Waiting, deadline: float) -> None:
        """As Writer.write. What the server has already of a batch is not sent again."""
        with short_waits(self._timeout_seconds):
            try:
                self._write(waiting, deadline)
            except MlflowException as error:
                kind = TrackingRefusedError if error.error_code in _REFUSALS else TrackingUnavailableError
                raise kind(first_line(error)) from error
            except (RequestException, OSError) as error:
                raise TrackingUnavailableError(first_line(error)) from error

    def run_id(self, model: str, version: str) -> str:
        """The monitoring run of a model version, made if there is none. Raises MlflowException.

        Of two that were made at the same time everybody takes the older one.
        """
        experiment_id = self.experiment_id()
        if found := self._runs(experiment_id, model, version):
            return found[0]
        tags = {_MODEL_TAG: model, _VERSION_TAG: version}
        made = self._client.create_run(experiment_id, tags=tags, run_name=f"monitoring {model} {version}").info.run_id
        first = self._runs(experiment_id, model, version)[0]
        if first != made:
            self._client.delete_run(made)
        return first

    def run_page(self, model: str, version: str) -> str | None:
        """Address of the monitoring run in MLflow's UI; None where there is no server, or it does not answer."""
        if not self._client.tracking_uri.startswith("http"):
            return None
        try:
            with short_waits(self._timeout_seconds):
                run_id = self.run_id(model, version)
                return f"{self._client.tracking_uri}/#/experiments/{self.experiment_id()}/runs/{run_id}"
        except (MlflowException, RequestException, OSError) as error:
            _logger.warning("The alert goes out without the report's address: %s", first_line(error))
            return None

    def _write(self, waiting: Waiting, deadline: float) -> None:
        batch = waiting.batch
        run_id = self.run_id(batch.model, batch.version)
        key = waiting.key
        sent = self._sent(run_id, key)
        for chunk in waiting.points(sent, _CHUNK):
            sent += len(chunk)
            # In one call: the server stores the tag after the metrics, and drops metrics that it has already.
            self._client.log_batch(run_id, [Metric(*point) for point in chunk], tags=[_sent_tag(key, sent)])
            if time.monotonic() > deadline:
                raise TrackingUnavailableError(
                    f"it is too slow: {sent:,} metrics of batch {batch.id} went out in the time given."
                )
        if waiting.artifacts.is_dir() and any(waiting.artifacts.iterdir()):
            self._client.log_artifacts(run_id, str(waiting.artifacts))
        tags = batch.run_tags | ({} if batch.note is None else {MLFLOW_RUN_NOTE: batch.note})
        self._client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        self._client.set_terminated(run_id)  # its end is the last time that something was written
        if batch.version.isdecimal():  # not `bundled` or `unregistered`: no registry holds those
            self._tag_version(batch.model, batch.version, batch.version_tags)

    def _tag_version(self, model: str, version: str, tags: dict[str, str]) -> None:
        try:
            held = self._client.get_model_version(model, version).tags
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            _logger.warning("%s version %s is not in the registry any more: its tags are left out.", model, version)
            return
        for name, value in tags.items():
            if name not in _EVENTS or held.get(name) != value:
                self._client.set_model_version_tag(model, version, name, value)

    def _sent(self, run_id: str, key: str) -> int:
        """How many metrics of this very batch the run holds."""
        last, _, count = self._client.get_run(run_id).data.tags.get(_SENT_TAG, "").rpartition(" ")
        return int(count) if last == key else 0

    def experiment_id(self) -> str:
        """Of the experiment, made if there is none. Raises MlflowException."""
        found = self._client.get_experiment_by_name(self._experiment)
        if found is not None:
            return found.experiment_id
        try:
            return self._client.create_experiment(self._experiment)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._client.get_experiment_by_name(self._experiment).experiment_id

    def _runs(self, experiment_id: str, model: str, version: str) -> list[str]:
        wanted = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in ((_MODEL_TAG, model), (_VERSION_TAG, version)))
        found = self._client.search_runs([experiment_id], wanted)
        return [run.info.run_id for run in sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))]


def _sent_tag(key: str, count: int) -> RunTag:
    return RunTag(_SENT_TAG, f"{key} {count}")


def first_line(error: Exception) -> str:
    """What an error says, short enough for a line of a log."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


@contextmanager
def short_waits(seconds: int) -> Iterator[None]:
    """Inside, MLflow's client waits for an answer this long and tries once more; its own patience is an hour."""
    short = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    before = {name: os.environ.get(name) for name in short}
    os.environ.update(short)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
