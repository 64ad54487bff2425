"""Settings of the drift job's surroundings; its limits are in `eye_disease.verdict.limits`."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from eye_disease.common.mlflow_client import DEFAULT_EXPERIMENT, experiment_name
from model_code.errors import SettingError
from model_code.setting_fields import Settings, boolean, declared, folder, location, whole

_PLACEHOLDER = re.compile(r"(?<!\$)\{\s*[A-Za-z_]\w*\s*(?:[!:][^{}]*)?\}|%\([A-Za-z_]\w*\)[sdr]")
"""`{reason}`, `{{ reason }}`, `{reason!r}`, `%(reason)s`, whatever the name; not a shell's `${RAISED_REASON}`."""
_NOT_SHOWN = "(not shown: it may hold a password)"
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"


@dataclass(frozen=True)
class MonitoringSettings(Settings):
    """What `drift_job.py` reads from its environment beside the limits."""

    inference_log: str = location("INFERENCE_LOG_DIR", "inference_logs")
    """The records: the folder that the served models write to, or its copy in an object store."""
    state_dir: Path = folder("MONITORING_DIR", "./monitoring_state")
    """What the job remembers between runs, and what waits to be sent; a local folder that lasts."""
    tracking_enabled: bool = boolean("ENABLE_MLFLOW_TRACKING", True)
    """Write results to MLflow."""
    experiment: str = declared("MLFLOW_EXPERIMENT_NAME", experiment_name, "a name", DEFAULT_EXPERIMENT)
    """Experiment of the registration, training, gate and monitoring runs."""
    mlflow_timeout_seconds: int = whole("MONITORING_MLFLOW_TIMEOUT_SECONDS", 10)
    """How long the tracking server may take for one request of the drift job."""
    health_url: str | None = declared(
        "HEALTH_CHECK_URL", lambda env: _read_server(env, "HEALTH_CHECK_URL"), "an http:// or https:// URL", "none"
    )
    """The served model to probe with its canary photo, with a login if it wants one; none: no probe."""
    alert_urls: tuple[str, ...] = declared(
        "ALERT_URLS", lambda env: _read_urls(env, "ALERT_URLS"), "Apprise URLs, separated by commas or spaces", "none"
    )
    """Where alerts go, see https://appriseit.com."""
    on_raise: tuple[str, ...] = declared(
        "DRIFT_ON_RAISE", lambda env: _read_command(env, "DRIFT_ON_RAISE"), "a command line without placeholders", "none"
    )
    """Command that an alarm about the answers starts in the background, once; it gets the reason in RAISED_REASON."""
    auto_rollback: bool = boolean("DRIFT_AUTO_ROLLBACK", False)
    """Roll a version in Production back that answers wrongly, or whose realised accuracy has fallen."""


def _read_server(env: Mapping[str, str], name: str) -> str | None:
    """Address of a model server, perhaps with a login; what people paste behind it (`/invocations`, `/ping`) is taken off."""
    text = env.get(name, "").strip()
    if not text:
        return None
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no such port, a bracket without its other half
        known = False
    if not known or re.search(r"[\s?#]", text):
        shown = env[name] if re.fullmatch(r"[\w.:/\[\]\s-]*", text) else _NOT_SHOWN
        allowed = "an http:// or https:// URL, as http://127.0.0.1:8080 or https://user:password@model.example/eye"
        raise SettingError(name, shown, f"{allowed}; a password's own / @ : ? # as %2F %40 %3A %3F %23")
    return parts._replace(path=re.sub(r"/*(/(invocations|ping))?/*$", "", parts.path)).geturl()


def _read_urls(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    """URLs separated by spaces or commas; a comma belongs to a URL unless another URL begins behind it."""
    urls = [url for url in re.split(rf"\s+|,\s*(?={_SCHEME})", env.get(name, "").strip(" ,\n")) if url]
    for number, url in enumerate(urls, start=1):
        if not re.match(_SCHEME, url):
            # Such URLs hold tokens and passwords, so only the place of the wrong one is shown.
            raise SettingError(name, f"(entry {number} of {len(urls)})", "Apprise URLs, separated by commas")
    return tuple(url.rstrip(",") for url in urls)


def _read_command(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    """A command line as a shell would split it, though none runs it: no pipes, no variables, no placeholders."""
    text = env.get(name, "")
    if placeholder := _PLACEHOLDER.search(text):
        raise SettingError(
            name,
            f"... {placeholder[0]} ...",
            "a command line without placeholders, since a reason holds what clients wrote. The command gets model, version and "
            "reason in RAISED_MODEL, RAISED_VERSION and RAISED_REASON, and as JSON on its standard input. Braces of its own "
            "belong into a script",
        )
    try:
        command = tuple(shlex.split(text))
    except ValueError as error:  # it may hold a password, so it is not shown
        raise SettingError(name, f"({error})", "a command line with its quotes closed") from error
    path = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}"
    if command and shutil.which(command[0], path=path) is None:
        shown = f"{command[0]} ..." if re.fullmatch(r"[\w./+-]+", command[0]) else _NOT_SHOWN
        raise SettingError(name, shown, "a command line whose program, the first word, is on the PATH")
    return command
