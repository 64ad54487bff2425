"""Names of registered models that everything here can follow."""

import re

from eye_disease.common.errors import UserError
from eye_disease.common.text import one_line

_FORM = re.compile(r"[^\W_](?:[\w .'()+,&-]*[\w')])?")
_LONGEST = 150
"""Bytes; file systems take 255, of a name that locks and temporary folders make longer."""


def check_name(name: str) -> None:
    """Raises UserError for a name that MLflow takes, but its searches and URIs, a record's folder or monitoring do not."""
    if not _FORM.fullmatch(name):
        raise UserError(
            f"The model name {one_line(repr(name))} cannot be used. Expected letters, digits, spaces and any of "
            "- _ . ' ( ) + , &; a letter or digit first, and no space, dot or dash last."
        )
    if len(name.encode()) > _LONGEST:
        raise UserError(f"The model name {one_line(name)!r} is {len(name.encode())} bytes long. Expected {_LONGEST} at most.")
    if re.search(r"\.lock-\d+$", name):
        raise UserError(f"The model name {one_line(name)!r} cannot be used: names that end in .lock-<number> are locks.")
