"""A version's model package, as far as monitoring needs it: its canary, the reference of its answers, what it promises."""

import json
import logging
import shutil
from itertools import count
from pathlib import Path

from eye_disease.common.errors import TrackingMissingError, UserError
from eye_disease.common.mlflow_client import tracking_call
from eye_disease.common.paths import BUNDLED_PACKAGE
from eye_disease.profiles.reference import REFERENCE_FILE
from eye_disease.records.state_file import StateFileError
from eye_disease.records.store import RecordStore
from eye_disease.registry.versions import fetch_package_files
from model_code.identity import BUNDLED_VERSION
from model_code.package import CANARY_ANSWER, CANARY_PHOTO, FACTS_FILE
from model_code.promise import Promise

_logger = logging.getLogger(__name__)
_FILES = (CANARY_PHOTO, CANARY_ANSWER, REFERENCE_FILE, FACTS_FILE)


class NoPromiseError(UserError):
    """A package whose promise cannot be read; the message says why."""


class Packages:
    """Fetched from the registry once and kept in a folder; the registry is that of MLFLOW_TRACKING_URI."""

    def __init__(self, folder: Path, timeout_seconds: int) -> None:
        self._folder = folder
        self._timeout_seconds = timeout_seconds

    def find(self, model: str, version: str) -> Path | None:
        """Folder with _FILES, REFERENCE_FILE only if the version has one; None for a version that no registry holds.

        Raises TrackingUnavailableError.
        """
        if version == BUNDLED_VERSION:
            return BUNDLED_PACKAGE
        if not version.isdecimal():
            return None
        folder = self._folder / model / version
        if folder.is_dir():
            return folder
        try:
            with tracking_call(self._timeout_seconds):
                return _fetch(model, version, folder)
        except TrackingMissingError:
            return None

    def set_aside(self, model: str, version: str, why: str) -> bool:
        """Rename a fetched package that is damaged, so that it is fetched again; False where there is none to fetch again.

        Raises StateFileError if that is not allowed.
        """
        folder = self._folder / model / version
        if version == BUNDLED_VERSION or not folder.is_dir():
            return False
        aside = next(path for n in count(1) if not (path := folder.with_name(f"{version}.damaged-{n}")).exists())
        try:
            folder.rename(aside)
        except OSError as error:
            raise StateFileError(f"{folder} is damaged and cannot be set aside ({error.strerror}).") from error
        _logger.error("%s is damaged (%s). It is kept as %s, and fetched again.", folder, why, aside)
        return True


def read_promise(packages: Packages, store: RecordStore) -> Promise | None:
    """None for a version that promises nothing, or whose package nobody has. Raises NoPromiseError, TrackingUnavailableError.

    Only the promise is read of the package's facts: whatever else stands there belongs to the version's own code.
    """
    package = packages.find(store.model, store.version)
    path = package and package / FACTS_FILE
    if path is None or not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text()).get("promise")
        return None if stored is None else Promise.from_dict(stored)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoPromiseError(f"{path} does not hold a promise of this release ({type(error).__name__}: {error}).") from error


def _fetch(model: str, version: str, folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    incoming = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(incoming, ignore_errors=True)  # of a run that was killed
    fetch_package_files(model, version, _FILES, incoming).rename(folder)
    shutil.rmtree(incoming)
    return folder
