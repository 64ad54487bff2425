"""Which version a retraining starts from, and which labels earlier ones have used."""

import re
from datetime import datetime

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from eye_disease.common.errors import UserError
from eye_disease.registry.versions import STAGES, look


class BaseError(UserError):
    """There is no such version to start from."""


def resolve_base(uri: str) -> tuple[str, str]:
    """`models:/NAME/Production` (a stage, a number), or `models:/NAME@alias` -> name and version number.

    Raises BaseError, registry.versions.StageError for an unknown model.
    """
    match = re.fullmatch(r"models:/([^/@]+)(?:/([^/@]+)|@([^/@]+))", uri)
    if match is None:
        raise BaseError(
            f"base={uri!r} names no version. Expected models:/NAME/Production, models:/NAME/3 or models:/NAME@alias."
        )
    name, wanted, alias = match.groups()
    seen = look(MlflowClient(), name)
    if alias:
        try:
            return name, str(MlflowClient().get_model_version_by_alias(name, alias).version)
        except MlflowException as error:
            raise BaseError(f"{uri}: {error.message}") from error
    version = seen.holder(wanted) if wanted in STAGES else wanted
    if version is None or version not in seen.stages:
        raise BaseError(
            f"{uri}: {name} has no version {'in ' if wanted in STAGES else ''}{wanted}. Promote or register one first."
        )
    return name, version


def labels_used_until(name: str) -> datetime | None:
    """Time of the newest label that a version of this model was retrained with; None if none was."""
    versions = MlflowClient().search_model_versions(f"name = '{name}'")
    times = [datetime.fromisoformat(one.tags["feedback_until"]) for one in versions if "feedback_until" in one.tags]
    return max(times, default=None)
