"""Downloads every version of a registered model and asks it for the known answer to its canary photo, as after a restore.

Run as `python -m deploy.check_versions [NAME]`; exits with 1 if a version cannot be downloaded or answers wrongly.
"""

import sys
import tempfile
from pathlib import Path

import mlflow

from eye_disease.registry.register import RegistrationError, require_canary
from eye_disease.registry.versions import list_versions
from model_code.schema import MODEL_NAME


def problems(name: str) -> dict[str, str | None]:
    """Version -> what is wrong with it, or None; newest first."""
    found: dict[str, str | None] = {}
    for version in list_versions(name):
        with tempfile.TemporaryDirectory() as folder:
            try:
                require_canary(Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version.version}", dst_path=folder)))
                found[version.version] = None
            except (RegistrationError, mlflow.MlflowException, OSError) as error:
                found[version.version] = str(error).strip().splitlines()[-1]
    return found


def main() -> None:
    """Command line."""
    name = sys.argv[1] if len(sys.argv) > 1 else MODEL_NAME
    found = problems(name)
    for version, problem in found.items():
        print(f"{name} version {version}: {problem or 'downloaded, its canary is answered as expected'}")
    if not found:
        sys.exit(f"{name} has no versions in this registry.")
    sys.exit(any(found.values()))


if __name__ == "__main__":
    main()
