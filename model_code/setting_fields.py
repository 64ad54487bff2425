"""Settings from the environment as typed fields of a dataclass. A wrong value stops the start and is named."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from model_code.errors import SettingError

_QUOTES = ("'", '"')
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_NOT_EXPANDED = re.compile(r"\$\w|\$\{|\$\(|%\w+%|^[A-Za-z]:[\\/]")
"""Variables of a shell, of Windows, and its drives."""
_TRUE_OR_FALSE = "true or false"
_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}


@dataclass(frozen=True)
class Setting:
    """How a field gets its value."""

    name: str
    """Of the environment variable"""
    read: Callable[[Mapping[str, str]], Any]
    """Environment -> value. Raises SettingError."""
    default: str
    """In words or numbers, for people"""
    allowed: str


@dataclass(frozen=True)
class Settings:
    """Base of a dataclass whose fields are declared with the functions below; the docstring of each says what it means."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Read every setting, from this process's environment where none is given. Raises SettingError for a wrong one."""
        known = os.environ if env is None else env
        return cls(**{part.name: setting_of(part.metadata).read(known) for part in fields(cls)})


def setting_of(metadata: Mapping[str, Any]) -> Setting:
    """Of a field, by its metadata."""
    declared: Setting = metadata["setting"]
    return declared


def declared(
    name: str, read: Callable[[Mapping[str, str]], Any], allowed: str, default: str, value: Callable[[], Any] | None = None
) -> Any:
    """A field that is read in a way of its own; value: what the class has without an environment, if not what `read` gives."""
    setting = Setting(name, read, default, allowed)
    return field(default_factory=value or (lambda: read({})), metadata={"setting": setting})


def boolean(name: str, default: bool) -> Any:
    """A field that is true or false."""
    return declared(name, lambda env: read_bool(env, name, default), _TRUE_OR_FALSE, str(default).lower())


def whole(name: str, default: int, maximum: int | None = None) -> Any:
    """A field with a whole number, from 1 to `maximum`."""
    return declared(name, lambda env: read_int(env, name, default, maximum), _whole_numbers(maximum), str(default))


def number(name: str, default: float, low: float, high: float) -> Any:
    """A field with a number from `low` to `high`."""
    return declared(name, lambda env: read_number(env, name, default, low, high), _numbers(low, high), f"{default:g}")


def choice(name: str, allowed: tuple[str, ...]) -> Any:
    """A field with one of a few words, the first without a setting."""
    return declared(name, lambda env: read_choice(env, name, allowed), ", ".join(allowed), allowed[0])


def location(name: str, default: str) -> Any:
    """A field with a folder or the URL of an object store."""
    return declared(name, lambda env: read_location(env, name, default), "a folder, or a URL as s3://bucket/folder", default)


def folder(name: str, default: str) -> Any:
    """A field with a folder of this machine; `default` may begin with `~`."""

    def read(env: Mapping[str, str]) -> Path:
        return read_folder(env, name, str(Path(default).expanduser()) if default.startswith("~") else default)

    return declared(name, read, "a folder of this machine", default)


def read_bool(env: Mapping[str, str], name: str, default: bool) -> bool:
    """The boolean setting `name`; unset or empty means `default`. Raises SettingError."""
    text = env.get(name, "").strip().lower()
    if not text:
        return default
    if text not in _TRUE | _FALSE:
        raise SettingError(name, env[name], _TRUE_OR_FALSE)
    return text in _TRUE


def _whole_numbers(maximum: int | None) -> str:
    return f"a whole number, 1 {'or more' if maximum is None else f'to {maximum}'}"


def _numbers(low: float, high: float) -> str:
    return f"a number, {low:g} to {high:g}" if high < 1e6 else f"a number, {low:g} to {high:,.0f}"


def read_int(env: Mapping[str, str], name: str, default: int, maximum: int | None = None) -> int:
    """The integer setting `name`, from 1 to `maximum`; unset or empty means `default`. Raises SettingError."""
    text = env.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) < 1 or (maximum is not None and int(text) > maximum):
        raise SettingError(name, env[name], _whole_numbers(maximum))
    return int(text)


def read_number(env: Mapping[str, str], name: str, default: float, low: float, high: float) -> float:
    """The setting `name`, a number from `low` to `high`; unset or empty means `default`. Raises SettingError."""
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:  # nan neither
        raise SettingError(name, env[name], _numbers(low, high))
    return value


def read_choice(env: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    """The setting `name`, one of `allowed`; unset or empty means the first. Raises SettingError."""
    text = env.get(name, "").strip().lower() or allowed[0]
    if text not in allowed:
        raise SettingError(name, env[name], ", ".join(allowed))
    return text


def read_location(env: Mapping[str, str], name: str, default: str) -> str:
    """The setting `name`, a folder or a URL; unset or empty means `default`. Raises SettingError.

    `~` is the home folder, and quotes around the whole are left out: files of settings (Docker, systemd, .env) are read
    without a shell that would do so.
    """
    text = env.get(name, "").strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES:
        text = text[1:-1].strip()
    if not text:
        return default
    if _URL.match(text):
        scheme = text.partition(":")[0]
        if not text.startswith(f"{scheme}://"):
            raise SettingError(name, f"{scheme}:...", f"a folder, or a URL as {scheme}://bucket/folder")
        return text
    try:
        expanded = str(Path(text).expanduser())
    except RuntimeError:  # no home folder, or no such user
        expanded = text
    if expanded.startswith("~") or text[0] in _QUOTES or text[-1] in _QUOTES or _NOT_EXPANDED.search(text):
        raise SettingError(
            name, env[name], "a folder, written out: no quotes, variables or drive letters, `~` for your own home"
        )
    return expanded


def read_folder(env: Mapping[str, str], name: str, default: str) -> Path:
    """The setting `name`, a folder of this machine, as an absolute path; as `read_location`. Raises SettingError."""
    text = read_location(env, name, default)
    if _URL.match(text):  # which may hold a password
        raise SettingError(
            name, f"{text.partition('://')[0]}://...", "a folder of this machine, as /var/log/eye-disease; no URL"
        )
    return Path(text).absolute()
