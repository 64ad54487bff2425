"""What can be wrong with a photo, a request or a setting."""

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

ERROR_CODES = {
    "image_missing": "The image cell is null.",
    "image_type": "The image cell is neither base64 text nor bytes.",
    "image_empty": "The image holds no bytes.",
    "base64_invalid": "The text is not valid base64.",
    "image_too_many_bytes": "The file is larger than MAX_IMAGE_BYTES.",
    "image_too_many_pixels": "The photo has more pixels than MAX_IMAGE_PIXELS (read from its header, before decoding).",
    "image_too_small": "A side of the photo is shorter than 32 pixels.",
    "format_unsupported": "Not a JPEG, PNG, BMP, TIFF or WebP image.",
    "mode_unsupported": "The pixels are of a kind with no agreed brightness range (32-bit integer or float).",
    "image_corrupt": "The file has the header of an image but cannot be decoded.",
    "too_many_rows": "The row stands beyond MAX_REQUEST_ROWS in its request.",
    "internal_error": "The model failed on this image; the server's log says where.",
}
"""Error code of an answer row -> meaning."""


class ImageError(Exception):
    """A photo that cannot be answered. It costs its own row, never its neighbours'.

    code: a key of ERROR_CODES. The message never holds image content.
    """

    def __init__(self, code: str, message: str) -> None:
        if code not in ERROR_CODES:
            raise KeyError(f"unknown error code {code!r}; expected one of {sorted(ERROR_CODES)}")
        super().__init__(message)
        self.code = code


class SettingError(ValueError):
    """A setting with a wrong value: names the setting, the value given and what is allowed."""

    def __init__(self, name: str, given: str, allowed: str) -> None:
        super().__init__(f"Setting {name}={given!r} is not valid. Allowed: {allowed}.")


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


class StrictRequestError(_FixedMessage):
    """`strict` was asked for and a row is bad: HTTP 400 for the whole request, nothing answered."""

    def __init__(self, message: str) -> None:
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)


class InferenceLogError(_FixedMessage):
    """INFERENCE_LOG_REQUIRED is set and the log cannot be written: HTTP 503, nothing answered."""

    def __init__(self, message: str) -> None:
        super().__init__(message, error_code=TEMPORARILY_UNAVAILABLE)
