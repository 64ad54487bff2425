"""Addresses in MLflow's pages that show runs and models; its front page shows traces of language models."""

from urllib.parse import quote

from eye_disease.common.secrets import hide_secrets

_KIND = "workflowType=machine_learning"
"""Without it MLflow 3.17 shows whichever side it showed last, at first the one for language models."""


def experiment_page(server: str, experiment: str) -> str:
    """The runs of an experiment. server: address of the tracking server; experiment: its id."""
    return f"{_base(server)}/experiments/{experiment}?{_KIND}"


def run_page(server: str, experiment: str, run_id: str, artifact: str = "") -> str:
    """A run, or one of its artifacts as it is seen."""
    return f"{_base(server)}/experiments/{experiment}/runs/{run_id}{f'/artifacts/{artifact}' if artifact else ''}?{_KIND}"


def model_page(server: str, name: str, version: str = "") -> str:
    """A registered model, or one version of it."""
    return f"{_base(server)}/models/{quote(name, safe='')}{f'/versions/{version}' if version else ''}?{_KIND}"


def _base(server: str) -> str:
    return f"{hide_secrets(server).rstrip('/')}/#"
