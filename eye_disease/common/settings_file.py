"""What `./start_mlflow.sh` wrote down, so that every command finds the stack that it runs, from any terminal."""

from collections.abc import Mapping, MutableMapping
from pathlib import Path

from eye_disease.common.errors import UserError
from eye_disease.common.paths import SETTINGS_FILE

NAMES = (
    *("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "HEALTH_CHECK_URL", "GATE_ENV_MANAGER"),
    *("INFERENCE_LOG_DIR", "MONITORING_DIR", "MODEL_CACHE_DIR"),
)
"""What may stand in the file: where the stack listens and keeps its state. Never a secret."""
LOCATION = "SETTINGS_FILE"
"""Setting: another file, or `none`."""
_MEND = f"Remove it: ./start_mlflow.sh writes it anew. {LOCATION}=none leaves it out."


class SettingsFileError(UserError):
    """The file is not one that the start has written."""


def settings_file(env: Mapping[str, str]) -> Path | None:
    """The file that the commands read; None: none."""
    location = env.get(LOCATION, "").strip()
    return None if location.lower() == "none" else Path(location).expanduser() if location else SETTINGS_FILE


def read(path: Path) -> dict[str, str]:
    """Name -> value; empty where there is no such file. Raises SettingsFileError, OSError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except UnicodeDecodeError as error:
        raise SettingsFileError(f"{path} is not text. {_MEND}") from error
    values: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        name, separator, value = line.partition("=")
        if not line.strip() or line.startswith("#"):
            continue
        if not separator or name not in NAMES:
            raise SettingsFileError(f"Line {number} of {path}: expected NAME=value, with a name of {', '.join(NAMES)}. {_MEND}")
        values[name] = value
    return values


def apply(env: MutableMapping[str, str]) -> dict[str, str]:
    """Set in `env` what the file holds and `env` does not; gives what was set.

    Nothing, where `env` names another tracking server than the file's: the records of one stack never go to another's server.
    Raises SettingsFileError, OSError.
    """
    path = settings_file(env)
    stored = read(path) if path else {}
    own = env.get("MLFLOW_TRACKING_URI", "").strip()
    if own and not _same_server(own, stored.get("MLFLOW_TRACKING_URI", "")):
        return {}
    new = {name: value for name, value in stored.items() if not env.get(name, "").strip()}
    env.update(new)
    return new


def _same_server(first: str, second: str) -> bool:
    return _plain(first) == _plain(second)


def _plain(uri: str) -> str:
    return uri.rstrip("/").replace("://localhost:", "://127.0.0.1:")
