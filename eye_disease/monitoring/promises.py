"""What a version's package promises of reported answers."""

import json

from eye_disease.common.errors import UserError
from eye_disease.monitoring.package_cache import Packages
from eye_disease.records.store import RecordStore
from model_code.package import FACTS_FILE
from model_code.promise import Promise


class NoPromiseError(UserError):
    """A package whose promise cannot be read; the message says why."""


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
