"""What the stack's own accounts may do on the MLflow server, beside what MLflow's permissions say.

MLflow lets every account create experiments and registered models, and gives it all rights over what it has created. A model
server opens files that strangers send, so its account reads; the drift job's writes runs, tags and stages, and nothing else.
Named in deploy/mlflow/basic_auth.ini as the server's `authorization_function`; other accounts are not touched.
"""

import re

from flask import Response, make_response, request
from mlflow.server.auth import authenticate_request_basic_auth
from werkzeug.datastructures import Authorization

from deploy.accounts import MONITORING, SERVING

_ROUTE = re.compile(r"^/(?:ajax-)?api/\d\.0/(mlflow(?:-artifacts)?/.+?)/?$")
_READ_BY_POST = re.compile(r"mlflow/[\w-]+/(?:search|get-latest-versions)")
_WRITES = re.compile(
    r"mlflow/runs/(?:create|update|log-\w+|set-tag|delete-tag)"
    r"|mlflow/experiments/set-experiment-tag"
    r"|mlflow/model-versions/(?:set-tag|delete-tag|transition-stage)"
    r"|mlflow/registered-models/(?:alias|set-tag|delete-tag)"
    r"|mlflow-artifacts/(?:artifacts|mpu)/.+"
)
"""Of the drift job: its runs, the tags of versions, and with DRIFT_AUTO_ROLLBACK their stages and aliases."""


def authenticate() -> Authorization | Response:
    """The request's account, where the password is right and the account may do this; else the answer that refuses it."""
    account = authenticate_request_basic_auth()
    if isinstance(account, Response) or may(str(account.username), request.method, request.path):
        return account
    return make_response(f"The account {account.username} may not do this: see deploy/README.md.", 403)


def may(user: str, method: str, path: str) -> bool:
    """Whether one of the stack's accounts may ask for a path; True for everybody else."""
    if user not in (SERVING, MONITORING) or method in ("GET", "HEAD"):
        return True
    route = match[1] if (match := _ROUTE.match(path)) else ""
    reads = method == "POST" and _READ_BY_POST.fullmatch(route) is not None
    return reads or (user == MONITORING and _WRITES.fullmatch(route) is not None)
