"""State files: what one run leaves for the next. A damaged one is named, set aside and kept; it costs only itself."""

import json
import logging
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter

from eye_disease.common.errors import UserError
from eye_disease.common.text import one_line
from eye_disease.records.storage import Storage

FORMAT = 1
"""Of the state files of this release; a file without a number is of the first one."""
_logger = logging.getLogger(__name__)
State = TypeVar("State")


class StateFileError(UserError):
    """A state file that cannot be read, though it is there; the message names it."""


def read_state(files: Storage, path: str, kind: type[State], cost: str, later: tuple[str, ...] = ()) -> State | None:
    """The dataclass that a JSON file holds; None if there is no such file, or it is damaged and was set aside.

    Fields that `kind` does not have are left out: a later release may have more. cost: what is done without the file, a
    sentence for the log. later: fields that files of earlier releases lack. Raises StateFileError if it cannot be read.
    """
    try:
        content = read_bytes(files, path)
        return decode(content, kind, later)
    except FileNotFoundError:
        return None
    except StateFileError:
        raise
    except ValueError as error:
        set_aside(files, path, error, cost)
        return None


def read_bytes(files: Storage, path: str) -> bytes:
    """What a file holds. Raises FileNotFoundError; StateFileError naming the file where it cannot be read."""
    try:
        return files.read(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StateFileError(
            f"{files.full(path)} cannot be read ({error.strerror or error}). Give the account of this process the right to "
            "read and write it, or move it away."
        ) from error


def decode(content: bytes, kind: type[State], later: tuple[str, ...] = ()) -> State:
    """JSON -> a dataclass, every type checked. Raises ValueError."""
    stored = json.loads(content)
    if not isinstance(stored, dict):
        raise ValueError("expected a JSON object")
    if (number := stored.get("format", FORMAT)) != FORMAT:
        raise ValueError(f"format {number!r}, of another release; expected {FORMAT}")
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type] # the caller knows that it is a dataclass
    if missing := known - stored.keys() - set(later):
        raise ValueError(f"without {', '.join(sorted(missing))}")
    adapter = _adapter(kind)  # type: ignore[arg-type] # a metaclass could make a class unhashable; a dataclass's does not
    state: State = adapter.validate_json(content, strict=True)
    return state


def set_aside(files: Storage, path: str, why: Exception, cost: str) -> None:
    """Rename a damaged file and say so. Raises StateFileError if that is not allowed."""
    try:
        target = files.set_aside(path)
    except OSError as error:
        raise StateFileError(
            f"{files.full(path)} is damaged ({one_line(why, 200)}) and cannot be set aside ({error.strerror or error})."
        ) from error
    _logger.error("%s is damaged (%s). It is kept as %s. %s", files.full(path), one_line(why, 200), target, cost)


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def encode(state: dict[str, Any]) -> bytes:
    """The inverse of `decode`; state: the fields as JSON types."""
    return json.dumps({"format": FORMAT, **state}).encode()
