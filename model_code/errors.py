"""Errors of a photo, a request or a setting."""

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

from model_code.image_error import ERROR_CODES, ImageError

__all__ = ["ERROR_CODES", "BusyError", "ImageError", "InferenceLogError", "RequestError", "SettingError", "StrictRequestError"]


class SettingError(ValueError):
    """A setting with a wrong value: names the setting, the value given and what is allowed."""

    def __init__(self, name: str, value: str, allowed: str) -> None:
        super().__init__(f"Setting {name}={value!r} is not valid. Allowed: {allowed}.")


class _FixedMessage(MlflowException):
    """An MlflowException that keeps its message.

    The scoring server puts `Failed to predict data '<repr of the request>'` before a message; proxies log error
    bodies, so photos and patient ids would reach logs that way.
    """

    @property
    def message(self) -> str:
        return self._message

    @message.setter
    def message(self, text: str) -> None:
        if not hasattr(self, "_message"):
            self._message = text


class RequestError(_FixedMessage):
    """The request cannot be answered at all: HTTP 400, no row is looked at. The message never holds what was sent."""

    def __init__(self, message: str) -> None:
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)


class StrictRequestError(RequestError):
    """`strict` was asked for and a row is bad: HTTP 400 for the whole request, nothing answered."""


class InferenceLogError(_FixedMessage):
    """INFERENCE_LOG_REQUIRED is set and the log cannot be written: HTTP 503, nothing answered."""

    def __init__(self, message: str) -> None:
        super().__init__(message, error_code=TEMPORARILY_UNAVAILABLE)


class BusyError(_FixedMessage):
    """More photos wait than can be answered in time: HTTP 503 at once, no row is looked at."""

    def __init__(self, limit_seconds: float) -> None:
        message = f"More photos wait than are answered in {limit_seconds:g} s (MAX_WAIT_SECONDS). Try again later."
        super().__init__(message, error_code=TEMPORARILY_UNAVAILABLE)
