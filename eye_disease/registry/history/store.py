"""The record of every transition: one MLflow run each, in an experiment of the model's own.

A run is made in one call with all its tags, as an intention (RUNNING), before anything moves; it is closed as FINISHED once
stage and alias have moved, or as FAILED if nothing did. Records are numbered without gaps, which orders them whatever the
clocks say; the lock of `lock.py` sees to it that a number is used once. A run deleted in MLflow's UI is still read.
"""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property

from mlflow import MlflowClient
from mlflow.entities import RunTag, ViewType

from eye_disease.common.errors import TrackingUnavailableError
from eye_disease.common.mlflow_client import experiment_id, who
from eye_disease.registry.history.transition import PREFIX, STATES, Transition
from eye_disease.registry.versions import StageError


class History:
    """The records of one registered model."""

    def __init__(self, client: MlflowClient, name: str) -> None:
        self._client = client
        self.name = name
        self.experiment = f"{name}/transitions"
        """Of the model, not of whoever is at work: everybody must see the same one."""

    @cached_property
    def _experiment_id(self) -> str:
        try:
            return experiment_id(self._client, self.experiment)
        except TrackingUnavailableError as error:
            raise StageError(f"The history cannot be read. {error}") from error

    def records(self) -> list[Transition]:
        """All of them in order, those deleted in MLflow's UI too; empty if there are none."""
        if self._client.get_experiment_by_name(self.experiment) is None:
            return []
        records, token = [], None
        while True:
            page = self._client.search_runs([self._experiment_id], "", ViewType.ALL, max_results=1000, page_token=token)
            records += [Transition.from_run(run) for run in page]
            if not (token := page.token):
                return sorted(records, key=lambda step: step.number)

    def begin(self, step: Transition, after: Sequence[Transition]) -> Transition:
        """Write a record as an intention, in one call; returns it with its number and run. Only under the lock.

        after: all records there are.
        """
        step = replace(step, number=max((transition.number for transition in after), default=0) + 1, who=step.who or who())
        tags = {PREFIX + key: value for key, value in step.tags(self.name).items()} | {"mlflow.user": step.who}
        run = self._client.create_run(self._experiment_id, _milliseconds(step.started), tags, run_name=step.title)
        return replace(step, run_id=run.info.run_id)

    def close(self, step: Transition, done: bool, recovered: bool = False) -> Transition:
        """Close a transition's record; `recovered`: another command than the one that opened it closes it."""
        if recovered:
            step = replace(step, recovered=who())
            self._client.log_batch(step.run_id, tags=[RunTag(f"{PREFIX}mended", step.recovered)])
        now = datetime.now(UTC)
        status = "FINISHED" if done else "FAILED"
        with redirect_stdout(sys.stderr):  # MLflow prints the run's address, which does not belong in a command's output
            self._client.set_terminated(step.run_id, status, _milliseconds(now))
        return replace(step, seen=now, state=STATES[status])


def _milliseconds(when: datetime) -> int:
    return int(when.timestamp() * 1000)
