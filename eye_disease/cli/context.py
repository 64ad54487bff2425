"""What a command works with: tracking server, log and state, and where each of them was said."""

import os
from pathlib import Path

import mlflow

from eye_disease.common.secrets import hide_secrets
from eye_disease.common.settings_file import NAMES, apply, settings_file
from eye_disease.monitoring.settings import MonitoringSettings
from eye_disease.serving.settings import RegistrySettings

_FROM_FILE: dict[str, str] = {}
"""What this process has taken from the settings file."""


def find_stack() -> None:
    """Take what `./start_mlflow.sh` wrote down into this process's environment, which wins. Raises UserError, OSError."""
    _FROM_FILE.clear()
    _FROM_FILE.update(apply(os.environ))


def surroundings() -> str:
    """A line each. Raises SettingError."""
    monitoring, registry = MonitoringSettings.from_env(), RegistrySettings.from_env()
    log = monitoring.inference_log
    lines = [
        ("tracking server", mlflow.get_tracking_uri(), "MLFLOW_TRACKING_URI"),
        ("records", log if "://" in log else Path(log).absolute(), "INFERENCE_LOG_DIR"),
        ("monitoring state", monitoring.state_dir, "MONITORING_DIR"),
        ("copies of models", registry.cache_dir, "MODEL_CACHE_DIR"),
    ]
    return "\n".join(f"{what:<16}  {hide_secrets(value)}  ({_origin(name)})" for what, value, name in lines)


def for_other_programs() -> dict[str, str]:
    """Settings that another program needs to work with the same stack."""
    return {name: os.environ[name] for name in (*NAMES, "MLFLOW_DISABLE_TELEMETRY") if os.environ.get(name)}


def why_not_there() -> str:
    """What to do where the tracking server does not answer whose address came from the file; else empty."""
    if "MLFLOW_TRACKING_URI" not in _FROM_FILE:
        return ""
    return f" Its address is from {settings_file(os.environ)}. Is ./start_mlflow.sh running?"


def _origin(name: str) -> str:
    if name in _FROM_FILE:
        return f"{name}, from {settings_file(os.environ)}"
    return f"{name}, from the environment" if os.environ.get(name, "").strip() else f"default; {name} is not set"
