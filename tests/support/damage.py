"""What can happen to a state file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from eye_disease.records.storage import Storage


def _half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _newer(path: Path) -> None:
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "format": 99}))


def _other_types(path: Path) -> None:
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({name: f"{value}" if isinstance(value, int) else 7 for name, value in stored.items()}))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "half": _half,
    "garbage": lambda path: path.write_bytes(b"\xff\x00\xfe garbage" * 50),
    "zeros": lambda path: path.write_bytes(bytes(4096)),
    "another kind of JSON": lambda path: path.write_text("[1, 2]"),
    "no fields": lambda path: path.write_text("{}"),
    "other types": _other_types,
    "a newer format": _newer,
}
"""Name -> does it to a JSON file."""


def without_permission(patched: pytest.MonkeyPatch, name: str, folder: str = "") -> None:
    """As if this process might not read files of that name (in such a folder); it may be root, to whom all is allowed."""
    read = Storage.read

    def refuse(self: Storage, path: str, start: int = 0, length: int | None = None) -> bytes:
        parts = self.full(path).split("/")
        if parts[-1] == name and (not folder or parts[-2] == folder):
            raise PermissionError(13, "Permission denied", path)
        return read(self, path, start, length)

    patched.setattr(Storage, "read", refuse)
