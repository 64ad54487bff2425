"""Downloads every version of a registered model and asks it for the known answer to its canary photo, as after a restore.

Run as `python -m deploy.check_versions [NAME]`; exits with 1 if a version cannot be downloaded or answers wrongly. Each version
is asked in a process of its own, with the code that it was registered with.
"""

import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from eye_disease.cli import command
from eye_disease.common.errors import EyeDiseaseError, TrackingUnavailableError
from eye_disease.common.mlflow_client import wait_briefly
from eye_disease.common.model_process import require_canary
from eye_disease.registry.versions import FetchedVersion, list_versions
from eye_disease.serving.settings import RegistrySettings
from model_code.schema import MODEL_NAME


def problems(name: str) -> dict[str, str | None]:
    """Version -> what is wrong with it, or None; newest first. Raises TrackingUnavailableError."""
    found: dict[str, str | None] = {}
    for version in list_versions(name):
        with tempfile.TemporaryDirectory() as folder:
            try:
                require_canary(FetchedVersion.fetch(name, version.version, Path(folder)).folder)
                found[version.version] = None
            except TrackingUnavailableError:
                raise
            except EyeDiseaseError as error:
                found[version.version] = str(error)
    return found


def _check(name: str) -> None:
    found = problems(name)
    for version, problem in found.items():
        print(f"{name} version {version}: {problem or 'downloaded, its canary is answered as expected'}")
    if not found:
        sys.exit(f"{name} has no versions in this registry.")
    sys.exit(any(found.values()))


def main() -> None:
    """Command line."""
    command.prepare()
    wait_briefly(os.environ, RegistrySettings.from_env().timeout_seconds)
    command.run("check_versions", partial(_check, sys.argv[1] if len(sys.argv) > 1 else MODEL_NAME))


if __name__ == "__main__":
    main()
