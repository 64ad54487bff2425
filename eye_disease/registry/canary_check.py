"""A model folder loaded in a process of its own and asked about its canary photo."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from eye_disease.common.errors import UserError
from eye_disease.common.paths import IMPORT_ROOT


class RegistrationError(UserError):
    """The model must not be registered: it is not what was checked, or does not answer as expected."""


def require_canary(model_folder: Path) -> None:
    """Check the canary answer of an MLflow model folder in a fresh process. Raises RegistrationError."""
    command = [sys.executable, "-m", "eye_disease.registry.verify", str(model_folder)]
    with tempfile.TemporaryDirectory() as discarded:
        env = os.environ | {"INFERENCE_LOG_DIR": discarded}
        done = subprocess.run(command, cwd=IMPORT_ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RegistrationError((done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1])
