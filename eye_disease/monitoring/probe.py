"""Asks the served model, whichever version it is by now, whether it is alive and right: /ping alone does not tell."""

import base64
import http.client
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eye_disease.common.environment import is_loopback
from eye_disease.common.errors import TrackingUnavailableError, UserError
from eye_disease.common.secrets import hide_secrets, split_login
from eye_disease.common.text import clean
from eye_disease.monitoring.package_cache import Packages
from eye_disease.records.state_file import StateFileError
from eye_disease.records.storage import Storage
from eye_disease.records.store import RecordStore, find_stores
from eye_disease.verdict.service import Health
from model_code.canary import canary_photo, differences, expected_answer
from model_code.identity import BUNDLED_VERSION
from model_code.schema import MODEL_NAME

_logger = logging.getLogger(__name__)
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


def probe_served(url: str, storage: Storage, packages: Packages) -> tuple[tuple[str, str], Health] | None:
    """(model, version) served at `url` and how it is, each version being asked for the answer registered with it.

    A server that names no version is taken for the one that wrote last. None if the canary of the version cannot be had.
    Raises OSError if the log cannot be read.
    """
    model, version = _wrote_last(find_stores(storage))
    health = _probe(url, model, version, packages)
    if health is not None and health.model_version not in (None, version):
        version = str(health.model_version)
        health = _probe(url, model, version, packages)
    if health is not None and not health.up:
        _logger.warning("The served model at %s is unhealthy: %s", hide_secrets(url), health.reason)
    return ((model, version), health) if health else None


def _probe(url: str, model: str, version: str, packages: Packages) -> Health | None:
    try:
        package = packages.find(model, version)
    except TrackingUnavailableError as error:
        _logger.warning("No health probe of %s version %s, whose canary cannot be fetched: %s", clean(model), version, error)
        return None
    if package is None:
        _logger.warning("No health probe of %s version %s: no registry holds its canary.", clean(model), clean(version))
        return None
    canary = _canary(package, packages, model, version)
    try:
        return probe(url, canary) if canary else None
    except NotLetInError as error:
        _logger.error("No health probe of %s: %s", hide_secrets(url), error)
        return None


def _canary(package: Path, packages: Packages, model: str, version: str) -> Canary | None:
    try:
        return Canary.of_package(package)
    except (OSError, ValueError) as error:
        _logger.warning("No health probe of %s version %s, whose canary is damaged: %s", clean(model), version, error)
        try:
            packages.set_aside(model, version, str(error))
        except StateFileError as unusable:
            _logger.error("%s", unusable)
        return None


def _wrote_last(stores: list[RecordStore]) -> tuple[str, str]:
    """By the hour of the newest segment, or where all are closed the day of the newest records."""
    last = max(stores, key=_newest, default=None)
    return (last.model, last.version) if last else (MODEL_NAME, BUNDLED_VERSION)


def _newest(store: RecordStore) -> str:
    try:
        segments = [name for name in store.storage.files(store.folder) if name.endswith(".jsonl")]
        days = [f"{part.day:%Y%m%d}" for part in store.all_parts("records")]
    except OSError:  # the run names it when this version's turn comes
        return ""
    return max([*segments, *days], default="")


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
