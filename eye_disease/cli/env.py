"""Print the settings of the stack that `./start_mlflow.sh` runs, for a shell, or run another program with them."""

import argparse
import os
import shlex
import sys
from pathlib import Path

from eye_disease.cli import command
from eye_disease.cli.context import for_other_programs
from eye_disease.cli.parser import Parser
from eye_disease.common.errors import UserError


def parser() -> Parser:
    example = "mlflow models serve -m models:/eye-disease-classifier/Production -p 8081 --env-manager local"
    line = Parser(prog="eye-disease env", description=__doc__, example=example)
    line.add_argument("program", nargs=argparse.REMAINDER, metavar="PROGRAM ...", help="with its arguments; none: print")
    return line


def main() -> None:
    command.prepare()
    arguments = parser().parse_args()
    command.run("env", lambda: _env(arguments.program))


def _env(program: list[str]) -> None:
    if not program:
        print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in for_other_programs().items()))
        return
    # Programs of this environment are found without it being activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    try:
        os.execvpe(program[0], program, os.environ | {"PATH": path})
    except (FileNotFoundError, PermissionError) as error:
        raise UserError(f"{program[0]}: no such program. Expected one of this environment, or of the PATH.") from error
