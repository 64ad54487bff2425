"""What this project knows of MLflow beyond its documentation: how its client waits and fails, who it says it is, its pages."""

import getpass
import os
import re
import socket
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from urllib.parse import quote

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import read_mlflow_creds
from requests.exceptions import RequestException

from eye_disease.common.environment import changed, without_proxy
from eye_disease.common.errors import TrackingMissingError, TrackingRefusedError, TrackingUnavailableError, UserError
from eye_disease.common.secrets import hide_secrets
from eye_disease.common.text import one_line

METRICS_PER_REQUEST = 500
"""Metrics of one `log_batch`, with a tag or two beside them.

A request holds at most 1,000 metrics, params and tags together; with more the client makes a second one of the rest, and what
a server has when it fails between the two is not known. It holds at most 1 MB as well, and the longest name (250 characters,
six bytes each in JSON) makes a metric of 1.6 kB.
"""
_KIND = {"mlflow.experimentKind": "custom_model_development"}
DEFAULT_EXPERIMENT = "eye-disease-classifier"
MISSING = "RESOURCE_DOES_NOT_EXIST"
_EXISTS = "RESOURCE_ALREADY_EXISTS"
_UNANSWERED = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")
_CAUSES = re.compile(
    r"Connection refused|[Rr]ead timed out|[Cc]onnection timed out|Connection reset|Name or service not known|"
    r"name resolution|nodename nor servname|too many \d+ error responses|certificate verify failed|Connection aborted"
)
"""How the libraries below MLflow's client name what went wrong, somewhere in their text."""
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE")

_WORKFLOW = "workflowType=machine_learning"
"""Of a page's address. Without it MLflow 3.17 shows whichever side it showed last, at first the one for language models."""


def experiment_name(env: Mapping[str, str] | None = None) -> str:
    """MLFLOW_EXPERIMENT_NAME: where runs of this project go."""
    return (os.environ if env is None else env).get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT


def experiment_id(client: MlflowClient, name: str) -> str:
    """Of the experiment, made if there is none, of the kind for which MLflow's list of experiments leads to runs.

    Raises TrackingUnavailableError if it was deleted, MlflowException.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, tags=_KIND))
        except MlflowException as error:
            if error.error_code != _EXISTS:
                raise
            return experiment_id(client, name)  # somebody else was first
    if experiment.lifecycle_stage == "deleted":
        raise TrackingUnavailableError(
            f"The experiment {one_line(name)} was deleted. Restore it: "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        )
    return str(experiment.experiment_id)


@contextmanager
def tracking_call(timeout_seconds: int, doing: str = "") -> Iterator[None]:
    """Inside, MLflow's client waits for an answer so long and tries once more; its own patience is an hour.

    What fails becomes TrackingMissingError, TrackingRefusedError or TrackingUnavailableError; the message begins with `doing`.
    """
    short = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_seconds), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    # The client prints the address of each run that it ends, under the run's name.
    silent = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    try:
        with changed(**short, **silent, **without_proxy(os.environ)):
            yield
    except MlflowException as error:
        raise kind_of(error)(doing + first_line(error)) from error
    except (RequestException, OSError) as error:
        raise TrackingUnavailableError(doing + first_line(error)) from error


def first_line(error: Exception) -> str:
    """What an error says, short enough for a line of a log, without secrets."""
    lines = str(error).strip().splitlines() or [""]
    return one_line(hide_secrets(lines[0]), 300) or type(error).__name__


def quoted(text: str) -> str:
    """A value in a search filter of MLflow's, which knows two kinds of quotes and no escapes. Raises UserError for both."""
    if "'" in text and '"' in text:
        raise UserError(f"MLflow cannot search for a name with both kinds of quotes: {one_line(text)}")
    return f'"{text}"' if "'" in text else f"'{text}'"


def is_unanswered(error: MlflowException) -> bool:
    """Whether it says that the server does not answer or does not work, rather than what the server thinks of the request."""
    return error.error_code in _UNANSWERED


def unanswered(error: Exception) -> str:
    """That the server does not answer, with its address and the cause, in a sentence."""
    message = str(error)
    address = re.search(r"API request to (https?://[^/\s]+)", message)
    causes = _CAUSES.findall(message)
    where = address[1] if address else mlflow.get_tracking_uri()
    return f"MLflow at {hide_secrets(where)} does not answer ({causes[-1] if causes else first_line(error)})."


def wait_briefly(env: MutableMapping[str, str], seconds: int) -> None:
    """From here on MLflow's client waits so long for an answer and tries once more, unless the user has said otherwise."""
    env.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(seconds))
    env.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")


def who() -> str:
    """The user name that MLflow's server checks, else the operating system's."""
    if name := read_mlflow_creds().username:
        return str(name)
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid {os.getuid()}"


def who_and_where() -> str:
    """As `alice on ward-7`."""
    return f"{who()} on {socket.gethostname()}"


def kind_of(error: MlflowException) -> type[TrackingUnavailableError]:
    """What an error of MLflow's means to whoever may try again."""
    if error.error_code == MISSING:
        return TrackingMissingError
    return TrackingRefusedError if error.error_code in _REFUSALS else TrackingUnavailableError


def experiment_page(server: str, experiment: str) -> str:
    """The runs of an experiment. server: address of the tracking server; experiment: its id."""
    return f"{_pages(server)}/experiments/{experiment}?{_WORKFLOW}"


def run_page(server: str, experiment: str, run_id: str, artifact: str = "") -> str:
    """A run, or one of its artifacts as it is seen."""
    return f"{_pages(server)}/experiments/{experiment}/runs/{run_id}{f'/artifacts/{artifact}' if artifact else ''}?{_WORKFLOW}"


def model_page(server: str, name: str, version: str = "") -> str:
    """A registered model, or one version of it."""
    return f"{_pages(server)}/models/{quote(name, safe='')}{f'/versions/{version}' if version else ''}?{_WORKFLOW}"


def _pages(server: str) -> str:
    return f"{hide_secrets(server).rstrip('/')}/#"
