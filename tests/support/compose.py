"""deploy/docker-compose.yml as Compose reads it: merged, with the environment filled in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.support.servers import PROJECT

COMPOSE_FILE = PROJECT / "deploy" / "docker-compose.yml"
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[?-])(?P<rest>[^}]*))?\}")


class MissingVariableError(ValueError):
    """What Compose says when a variable with `:?` is unset or empty."""


@dataclass(frozen=True)
class Variable:
    """A use of a variable in the file."""

    name: str
    needed: bool
    rest: str
    """Message if it is needed, else its default."""


def variables() -> list[Variable]:
    """Every use of a variable, in the order of the file."""
    found = _VARIABLE.finditer(COMPOSE_FILE.read_text())
    return [Variable(one["name"], one["kind"] == "?", one["rest"] or "") for one in found]


def load(env: Mapping[str, str]) -> dict[str, Any]:
    """The file's content. Raises MissingVariableError."""

    def value(match: re.Match[str]) -> str:
        given = env.get(match["name"], "")
        if given or match["kind"] is None:
            return given
        if match["kind"] == "?":
            raise MissingVariableError(f"required variable {match['name']} is missing a value: {match['rest']}")
        return match["rest"]

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: filled(one) for key, one in node.items()}
        if isinstance(node, list):
            return [filled(one) for one in node]
        return _VARIABLE.sub(value, node) if isinstance(node, str) else node

    return filled(yaml.safe_load(COMPOSE_FILE.read_text()))
