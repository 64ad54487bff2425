"""Accounts of the model servers and the drift job on an MLflow server with basic auth; run again, it sets their passwords anew.

A model server opens files that strangers send, so its account may only read. The drift job's may write to the project's
experiment and tag the registered model's versions. People get accounts of their own from the administrator.
"""

import os
import sys

from mlflow import MlflowClient
from mlflow.exceptions import RestException
from mlflow.server import get_app_client
from mlflow.server.auth.client import AuthServiceClient

from eye_disease.common.mlflow_client import experiment_id, experiment_name
from model_code.schema import MODEL_NAME

SERVING, MONITORING = "serving", "monitoring"


def _set_password(accounts: AuthServiceClient, user: str, password: str) -> None:
    try:
        accounts.get_user(user)
    except RestException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        accounts.create_user(user, password)
    else:
        accounts.update_user_password(user, password)


def _allow_edit(accounts: AuthServiceClient, user: str, kind: str, resource: str) -> None:
    try:
        accounts.grant_user_permission(user, kind, resource, "EDIT")
    except RestException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # from an earlier run
            raise


def make_accounts(tracking_uri: str, serving_password: str, monitoring_password: str) -> None:
    """Make both accounts with their rights; needs the administrator's MLFLOW_TRACKING_USERNAME and PASSWORD."""
    accounts = get_app_client("basic-auth", tracking_uri=tracking_uri)
    _set_password(accounts, SERVING, serving_password)
    _set_password(accounts, MONITORING, monitoring_password)
    client = MlflowClient(tracking_uri)
    _allow_edit(accounts, MONITORING, "experiment", experiment_id(client, experiment_name()))
    _allow_edit(accounts, MONITORING, "registered_model", MODEL_NAME)


if __name__ == "__main__":
    needed = ("MLFLOW_TRACKING_URI", "MLFLOW_SERVING_PASSWORD", "MLFLOW_MONITORING_PASSWORD")
    if missing := [name for name in needed if not os.environ.get(name)]:
        sys.exit(f"deploy.accounts: set {', '.join(missing)}")
    make_accounts(*(os.environ[name] for name in needed))
    print(f"Accounts {SERVING} (reads) and {MONITORING} (writes to experiment and versions) are ready.")
