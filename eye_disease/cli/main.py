"""`eye-disease COMMAND ...`: every command of the project under one name."""

import sys
from importlib import import_module

from eye_disease.cli.parser import suggestion

COMMANDS = {
    "register": ("register", "register"),
    "promote": ("register", "promote"),
    "validate": ("register", "validate"),
    "rollback": ("register", "rollback"),
    "history": ("register", "history"),
    "list": ("register", "list"),
    "drift": ("drift", "run"),
    "run": ("drift", "run"),
    "watch": ("drift", "watch"),
    "worklist": ("drift", "worklist"),
    "feedback": ("drift", "feedback"),
    "replay": ("drift", "replay"),
    "compare": ("drift", "compare"),
    "audit": ("audit", ""),
    "train": ("train", ""),
    "retrain": ("retrain", ""),
    "serve": ("serve", ""),
    "proxy": ("proxy", ""),
    "env": ("env", ""),
    "pages": ("pages", ""),
    "openapi": ("openapi", ""),
}
"""Command -> the module of `eye_disease.cli` that holds it, and its word there."""


def main() -> None:
    """Run the command that the first argument names."""
    word, *rest = sys.argv[1:] or [""]
    if word not in COMMANDS:
        wants_help = word in {"-h", "--help"}
        meant = suggestion(word, list(COMMANDS)) if word and not wants_help else ""
        usage = f"usage: eye-disease COMMAND ...\n\nCommands: {', '.join(COMMANDS)}. `eye-disease COMMAND --help` says more."
        print(f"Unknown command. {meant}\n{usage}" if meant else usage, file=sys.stdout if wants_help else sys.stderr)
        sys.exit(0 if wants_help else 2)
    module, its_word = COMMANDS[word]
    sys.argv = [f"eye-disease {word}" if not its_word else "eye-disease", *([its_word] if its_word else []), *rest]
    import_module(f"eye_disease.cli.{module}").main()
