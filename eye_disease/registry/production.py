"""Which version the registry holds in Production: only that one can be rolled back."""

from mlflow import MlflowClient

from eye_disease.common.errors import TrackingMissingError
from eye_disease.common.mlflow_client import tracking_call


def version_in_production(model: str, timeout_seconds: int) -> str | None:
    """By the alias `production`, or where there is none by the stage; None: no version is. Raises TrackingUnavailableError."""
    try:
        with tracking_call(timeout_seconds):
            found = MlflowClient().get_registered_model(model)
    except TrackingMissingError:
        return None
    if "production" in found.aliases:
        return str(found.aliases["production"])
    staged = [str(one.version) for one in found.latest_versions if one.current_stage == "Production"]
    return staged[0] if staged else None
