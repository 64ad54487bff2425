"""Which version the registry holds in Production: only that one can be rolled back."""

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException

from eye_disease.monitoring.mlflow_writer import first_line, short_waits


class RegistryUnavailableError(Exception):
    """The registry does not say now: try again later."""


def version_in_production(model: str, timeout_seconds: int) -> str | None:
    """By the alias `production`, or where there is none by the stage; None: no version is. Raises RegistryUnavailableError."""
    try:
        with short_waits(timeout_seconds):
            found = MlflowClient().get_registered_model(model)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise RegistryUnavailableError(first_line(error)) from error
    except (RequestException, OSError) as error:
        raise RegistryUnavailableError(first_line(error)) from error
    if "production" in found.aliases:
        return str(found.aliases["production"])
    staged = [str(one.version) for one in found.latest_versions if one.current_stage == "Production"]
    return staged[0] if staged else None
