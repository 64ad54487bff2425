"""What a command says and ends with."""

import subprocess
import sys

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from eye_disease.cli.command import run
from eye_disease.common.errors import BusyError, TrackingUnavailableError, UserError
from model_code.errors import ImageError, SettingError
from model_code.model_error import ModelError
from tests.support.servers import PROJECT


def _ended(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    def action() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        run("register.py list", action)
    text = capsys.readouterr().err
    return (1, str(end.value)) if isinstance(end.value.code, str) else (end.value.code, text.strip())


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("no such version"), 1, "register.py list: no such version"),
        (BusyError("another run"), 75, "register.py list: another run"),
        (TrackingUnavailableError("no answer"), 69, "register.py list: no answer"),
        (SettingError("X", "y", "true or false"), 1, "register.py list: Setting X='y' is not valid. Allowed: true or false."),
        (ModelError("no package"), 1, "register.py list: no package"),
        (ImageError("image_empty", "no bytes"), 1, "register.py list: no bytes"),
        (FileNotFoundError(2, "No such file", "a.jpg"), 1, "register.py list: [Errno 2] No such file: 'a.jpg'"),
        (MlflowException("refused\nTraceback\n  File 'x'", INVALID_PARAMETER_VALUE), 1, "register.py list: refused"),
        (
            MlflowException(
                "API request to http://127.0.0.1:9/api/2.0/mlflow/registered-models/get failed with exception "
                "HTTPConnectionPool(host='127.0.0.1', port=9): Max retries exceeded with url: /api "
                "(Caused by NewConnectionError('<HTTPConnection>: Failed to establish a new connection: Connection refused'))"
            ),
            69,
            "register.py list: MLflow at http://127.0.0.1:9 does not answer (Connection refused).",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_is_not_the_programs_mistake_is_one_sentence(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _ended(error, capsys) == (status, said)


@pytest.mark.parametrize("mistake", [ValueError("x"), TypeError("x"), KeyError("x"), AssertionError("x")])
def test_a_mistake_of_the_program_keeps_its_traceback(mistake: Exception) -> None:
    def action() -> None:
        raise mistake

    with pytest.raises(type(mistake)) as raised:
        run("register.py list", action)
    assert raised.value is mistake


def test_a_wrong_setting_ends_a_command_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "serve.py"], cwd=PROJECT, env={"MAX_IMAGE_BYTES": "many"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "serve.py: Setting MAX_IMAGE_BYTES='many' is not valid. Allowed: a whole number, 1 or more.\n"
