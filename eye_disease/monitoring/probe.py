"""Is the served model alive and right? A server that only answers /ping may still predict wrongly."""

import base64
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eye_disease.verdict.health import Health
from model_code.canary import canary_photo, differences, expected_answer

_OWN_ERRORS = ("internal_error", "image_corrupt", "format_unsupported", "mode_unsupported")
"""Error codes that no setting explains where the photo is known to be good."""


@dataclass(frozen=True)
class Canary:
    """A photo and the answer that was registered with it."""

    photo: bytes
    expected: dict[str, Any]

    @classmethod
    def of_package(cls, package: Path) -> "Canary":
        """Read a model package's canary. Raises OSError, ValueError."""
        return cls(canary_photo(package), expected_answer(package))


def probe(url: str, canary: Canary, timeout_seconds: float = 10.0) -> Health:
    """Ask the server at `url` for /ping and for its answer to the canary. Never raises: what fails is the finding."""
    start = time.perf_counter()
    if reason := _failure(lambda: _get(f"{url}/ping", None, timeout_seconds)):
        return Health(False, f"/ping: {reason}", None, None)
    ping_ms = (time.perf_counter() - start) * 1000
    answers: list[dict[str, Any]] = []
    row = {"image": base64.b64encode(canary.photo).decode(), "image_id": "canary"}
    body = json.dumps({"dataframe_records": [row]}).encode()
    if reason := _failure(lambda: answers.append(_answer(_get(f"{url}/invocations", body, timeout_seconds)))):
        return Health(False, f"The canary photo was not answered: {reason}", ping_ms, None)
    version = answers[0].get("model_version")
    if answers[0].get("error_code"):
        code = answers[0]["error_code"]
        reason = f"The canary photo was answered with the error {code}."
        return Health(False, reason, ping_ms, version, wrong=code in _OWN_ERRORS)
    if wrong := differences(answers[0], canary.expected):
        return Health(False, f"The answer to the canary photo is wrong: {'; '.join(wrong)}.", ping_ms, version, wrong=True)
    return Health(True, None, ping_ms, version)


def _failure(ask: Callable[[], object]) -> str | None:
    """Why a request failed, a sentence; None if it did not."""
    try:
        ask()
    except urllib.error.HTTPError as error:
        error.close()
        return f"HTTP status {error.code}."
    except TimeoutError:
        return "no answer in time."
    except OSError as error:
        reason = getattr(error, "reason", error)
        return "no answer in time." if isinstance(reason, TimeoutError) else f"no connection ({reason})."
    except (http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        return f"not an answer of this model ({type(error).__name__})."
    return None


def _get(url: str, body: bytes | None, timeout_seconds: float) -> bytes:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"} if body else {})
    with urllib.request.urlopen(request, timeout=timeout_seconds) as response:
        return response.read()


def _answer(body: bytes) -> dict[str, Any]:
    answer = json.loads(body)["predictions"][0]
    if not isinstance(answer, dict):
        raise TypeError
    return answer
