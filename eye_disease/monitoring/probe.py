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

from eye_disease.common.environment import is_loopback
from eye_disease.common.errors import UserError
from eye_disease.common.secrets import split_login
from eye_disease.common.text import clean
from eye_disease.verdict.service import Health
from model_code.canary import canary_photo, differences, expected_answer

_NOT_LET_IN = (401, 403, 407)
_LONGEST_DIFFERENCE = 200
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


class NotLetInError(UserError):
    """The probe itself is refused: its login is missing or wrong, which says nothing of the model."""


def probe(url: str, canary: Canary, timeout_seconds: float = 10.0) -> Health:
    """Ask the server at `url`, which may hold a login, for /ping and for its answer to the canary.

    What fails is the finding, unless the server does not let the probe in. Raises NotLetInError.
    """
    url, login = split_login(url)
    server = _Server(url, {"Authorization": login} if login else {}, timeout_seconds)
    start = time.perf_counter()
    if reason := _failure(lambda: server.get("/ping", None)):
        return Health(False, f"/ping: {reason}", None, None)
    ping_ms = (time.perf_counter() - start) * 1000
    answers: list[dict[str, Any]] = []
    row = {"image": base64.b64encode(canary.photo).decode(), "image_id": "canary"}
    body = json.dumps({"dataframe_records": [row]}).encode()
    if reason := _failure(lambda: answers.append(_answer(server.get("/invocations", body)))):
        return Health(False, f"The canary photo was not answered: {reason}", ping_ms, None)
    version = answers[0].get("model_version")
    if answers[0].get("error_code"):
        code = answers[0]["error_code"]
        reason = f"The canary photo was answered with the error {clean(code)}."
        return Health(False, reason, ping_ms, version, wrong=code in _OWN_ERRORS)
    if wrong := differences(answers[0], canary.expected):
        differing = "; ".join(clean(difference, _LONGEST_DIFFERENCE) for difference in wrong)
        return Health(False, f"The answer to the canary photo is wrong: {differing}.", ping_ms, version, wrong=True)
    return Health(True, None, ping_ms, version)


def _failure(ask: Callable[[], object]) -> str | None:
    """Why a request failed, a sentence; None if it did not. Raises NotLetInError."""
    try:
        ask()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _NOT_LET_IN:
            raise NotLetInError(
                f"HTTP status {error.code}: the server wants another login than HEALTH_CHECK_URL holds. "
                "Expected http://user:password@host:port."
            ) from error
        return f"HTTP status {error.code}."
    except TimeoutError:
        return "no answer in time."
    except OSError as error:
        reason = getattr(error, "reason", error)
        return "no answer in time." if isinstance(reason, TimeoutError) else f"no connection ({_words(reason)})."
    except (http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        return f"not an answer of this model ({type(error).__name__})."
    return None


def _words(reason: object) -> str:
    """What the operating system says, without its number."""
    return clean((isinstance(reason, OSError) and reason.strerror) or reason)


@dataclass(frozen=True)
class _Server:
    """A model server; one on this machine is never asked through a proxy."""

    url: str
    headers: dict[str, str]
    timeout_seconds: float

    def get(self, path: str, body: bytes | None) -> bytes:
        """What it answers to a GET, or a POST of JSON."""
        request = urllib.request.Request(f"{self.url}{path}", body, {"Content-Type": "application/json"} if body else {})
        for name, value in self.headers.items():
            request.add_unredirected_header(name, value)  # for this server only, wherever it sends us
        proxies = [urllib.request.ProxyHandler({})] if is_loopback(self.url) else []
        with urllib.request.build_opener(*proxies).open(request, timeout=self.timeout_seconds) as response:
            return bytes(response.read())


def _answer(body: bytes) -> dict[str, Any]:
    answer = json.loads(body)["predictions"][0]
    if not isinstance(answer, dict):
        raise TypeError
    return answer
