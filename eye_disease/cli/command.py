"""Running a command: its log, its environment, its exit status."""

import logging
import os
import signal
import sys
from collections.abc import Callable

from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException

from eye_disease.cli.context import find_stack, why_not_there
from eye_disease.common.errors import EyeDiseaseError, TrackingUnavailableError
from eye_disease.common.mlflow_client import is_unanswered, unanswered
from eye_disease.common.secrets import hide_everywhere, hide_secrets
from eye_disease.common.text import one_line
from model_code.errors import ImageError, SettingError
from model_code.model_error import ModelError

_SAID_IN_A_SENTENCE = (EyeDiseaseError, SettingError, ModelError, ImageError, MlflowException, OSError)
_BELOW_MLFLOW = ("sqlalchemy", "alembic", "botocore")
"""Libraries whose errors MLflow lets through, of a database or an object store that cannot be used."""


def prepare(level: int = logging.WARNING) -> None:
    """Before anything is done: the log goes to stderr, without secrets; no progress bars, no talk of missing GPUs.

    What `./start_mlflow.sh` wrote down is taken into the environment, which wins.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s")
    hide_everywhere()
    try:
        find_stack()
    except (EyeDiseaseError, OSError) as error:
        sys.exit(_sentence(error))


def run(name: str, action: Callable[[], None]) -> None:
    """Run a command, `name` as the user typed it. What is wrong with what it was given, with the machine or with a server is
    one sentence on stderr and an exit status; a mistake of this program keeps its traceback.
    """
    try:
        action()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        if not (isinstance(error, _SAID_IN_A_SENTENCE) or type(error).__module__.partition(".")[0] in _BELOW_MLFLOW):
            raise
        if isinstance(error, RequestException) or (isinstance(error, MlflowException) and is_unanswered(error)):
            error = TrackingUnavailableError(unanswered(error) + why_not_there())
        sentence, status = f"{name}: {_sentence(error)}", error.exit_status if isinstance(error, EyeDiseaseError) else 1
        if status == 1:
            sys.exit(sentence)
        print(sentence, file=sys.stderr)
        sys.exit(status)


def names(text: str) -> tuple[str, ...]:
    """`a, b` -> a and b, without the blanks that people put after a comma."""
    return tuple(name.strip() for name in text.split(",")) if text.strip() else ()


def _sentence(error: Exception) -> str:
    """What an error says, without secrets; of MLflow's, which hold stack traces of the server, the first line."""
    text = hide_secrets(error.message if isinstance(error, MlflowException) else error)
    lines = text.strip().splitlines() or [type(error).__name__]
    if not isinstance(error, (EyeDiseaseError, SettingError, ModelError, ImageError)):
        return one_line(lines[0], 500)
    return "\n".join(map(one_line, lines))
