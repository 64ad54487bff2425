"""One transition of a model at a time, whoever makes it and from whichever machine.

MLflow has no compare-and-swap, but on every store a registered model's name can be created once only, and its creation
bears the server's time. A lock is such a name, `NAME.lock-1`, that holds no version. Whoever has created one looks for others:
with none there it holds the lock; with a lower one it steps back and tries again; with a higher one it waits for that.
Since everybody creates before looking, two can never both find themselves alone. A lock whose command has died expires
once it is older than STALE_SECONDS, by the server's clock; it is removed if the permissions allow it, and is harmless if not.
"""

import itertools
import logging
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from eye_disease.common.mlflow_client import quoted, who_and_where
from eye_disease.registry.versions import StageError

STALE_SECONDS = 60
"""A transition holds the lock for a second or two, on a very slow server for some more."""
HOLD_SECONDS = 30
"""A command that has held the lock longer than this moves nothing. Well below STALE_SECONDS."""
WAIT_SECONDS = 75
"""Above STALE_SECONDS, so that a command gets past a dead one's lock by waiting."""
_HOLDER = "lock.holder"
_logger = logging.getLogger(__name__)


class LockedError(StageError):
    """Somebody else is moving a version of this model."""


class Lock:
    """A held lock."""

    def __init__(self) -> None:
        self._until = time.monotonic() + HOLD_SECONDS

    def require_time(self) -> None:
        """Raises LockedError if so much time has gone by that others may soon take this lock for a dead command's."""
        if time.monotonic() > self._until:
            raise LockedError("The registry answers too slowly to hold the lock safely. Nothing was moved; try again.")


@contextmanager
def locked(client: MlflowClient, name: str) -> Iterator[Lock]:
    """Inside, nobody else is in such a block for the same model. Raises LockedError after WAIT_SECONDS, naming the holder."""
    deadline, warned = time.monotonic() + WAIT_SECONDS, False
    while True:
        lock, mine = Lock(), _create(client, name)
        try:
            rival = _rival(client, name, mine)
            while rival is not None and _number(rival) > _number(mine) and time.monotonic() < deadline:
                time.sleep(0.1)
                rival = _rival(client, name, mine)
            if rival is None:
                yield lock
                return
        finally:
            _remove(client, mine.name)
        if time.monotonic() > deadline:
            raise LockedError(f"{_busy(name, rival)} Nothing was moved; try again.")
        if not warned:
            _logger.warning("%s Waiting.", _busy(name, rival))
            warned = True
        time.sleep(random.uniform(0.1, 0.5))


def _create(client: MlflowClient, name: str) -> RegisteredModel:
    """The first free name; those taken are few."""
    tags = {_HOLDER: who_and_where()}
    for number in itertools.count(1):
        try:
            return client.create_registered_model(
                _name(name, number), tags, "Held while a version moves between stages, then removed. Holds no model."
            )
        except MlflowException as error:
            # The latter if it was there, and was removed while MLflow looked what it is.
            if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"):
                raise
    raise AssertionError("unreachable")


def _rival(client: MlflowClient, name: str, mine: RegisteredModel) -> RegisteredModel | None:
    """The lowest lock of somebody else that has not expired; None if there is none. Removes the expired ones."""
    locks = client.search_registered_models(f"name LIKE {quoted(f'{name}.lock-%')}", max_results=100)
    others = {_number(other): other for other in locks if re.fullmatch(re.escape(name) + r"\.lock-\d+", other.name)}
    others.pop(_number(mine), None)
    # All lower ones were there when mine was made. One not seen is gone, or may not be read by this user: try again.
    unseen = [_name(name, number) for number in range(1, _number(mine)) if number not in others]
    oldest = mine.creation_timestamp - STALE_SECONDS * 1000
    live = {number: other for number, other in others.items() if other.creation_timestamp >= oldest}
    for number in others.keys() - live.keys():
        _logger.warning("Ignoring the expired lock %s, left by %s.", others[number].name, others[number].tags.get(_HOLDER))
        _remove(client, others[number].name)
    if unseen:
        return RegisteredModel(unseen[0], mine.creation_timestamp)
    return live[min(live)] if live else None


def _remove(client: MlflowClient, name: str) -> None:
    try:
        client.delete_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # taken over and removed by another command
            _logger.warning(
                "%s could not be removed (%s). Past %d s of age it is harmless.", name, error.message, STALE_SECONDS
            )


def _name(model: str, number: int) -> str:
    return f"{model}.lock-{number}"


def _number(lock: RegisteredModel) -> int:
    return int(lock.name.rpartition("-")[2])


def _busy(name: str, rival: RegisteredModel) -> str:
    since = time.strftime("%H:%M:%SZ", time.gmtime(rival.creation_timestamp / 1000))
    return (
        f"{rival.tags.get(_HOLDER, 'Somebody')} is moving a version of {name}, since {since}. "
        f"If that command has died, its lock ({rival.name}) expires after {STALE_SECONDS} s."
    )
