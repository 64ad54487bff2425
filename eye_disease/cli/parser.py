"""Command lines that explain themselves: defaults and an example in the help, suggestions for unknown words, `-v`."""

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from eye_disease.cli.context import surroundings


class _Defaults(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Says a default where there is one to say."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        nothing = action.default in (None, "", False) or action.default is argparse.SUPPRESS
        return action.help if nothing else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """example: what may follow the program's name."""

    def __init__(self, *, example: str, **options: Any) -> None:
        options.setdefault("formatter_class", _Defaults)
        super().__init__(**options)
        self._typed: list[str] = []
        self.epilog = f"example:\n  {self.prog} {example}".rstrip()
        self.add_argument(
            *("-v", "--verbose"),
            action="store_true",
            default=argparse.SUPPRESS,
            help="say which tracking server, log and state are used",
        )

    def parse_args(  # type: ignore[override] # argparse says the same in overloads
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        """As argparse; with -v the surroundings are said on stderr."""
        arguments: argparse.Namespace = super().parse_args(args, namespace)
        if vars(arguments).pop("verbose", False):
            print(surroundings(), file=sys.stderr)
        return arguments

    def parse_known_args(self, args: Any = None, namespace: Any = None, **rest: Any) -> Any:
        """As argparse; keeps what was typed for the suggestions."""
        self._typed = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace, **rest)

    def error(self, message: str) -> NoReturn:
        """As argparse, with the word that was perhaps meant."""
        meant = _of_choices(message) or _of_options(self._typed, _options(self))
        super().error(message + (f"\n{meant}" if meant else ""))


def suggestion(word: str, known: Sequence[str]) -> str:
    """A question, or an empty text where nothing is like `word`."""
    like = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"Did you mean {like[0]}?" if like else ""


def _of_choices(message: str) -> str:
    match = re.search(r"invalid choice: '?([^\s']*)'? \(choose from (.*)\)", message)
    return suggestion(match[1], re.findall(r"[\w.-]+", match[2])) if match else ""


def _of_options(typed: list[str], known: list[str]) -> str:
    words = [word.partition("=")[0] for word in typed if word.startswith("--") and len(word) > 2]
    unknown = [word for word in words if not any(option.startswith(word) for option in known)]
    return next(filter(None, (suggestion(word, known) for word in unknown)), "")


def _options(parser: argparse.ArgumentParser) -> list[str]:
    """Of a parser and of its commands."""
    own = [text for action in parser._actions for text in action.option_strings if text.startswith("--")]
    below = [action.choices.values() for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return own + [option for choices in below for command in choices for option in _options(command)]
