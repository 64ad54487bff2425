"""Print the served model's API as an OpenAPI document: what docs/openapi.yaml holds."""

from eye_disease.cli import command
from eye_disease.cli.parser import Parser
from eye_disease.serving.openapi import CLASSES, text


def parser() -> Parser:
    line = Parser(prog="eye-disease openapi", description=__doc__, example="--classes healthy,sick")
    line.add_argument("--classes", default=",".join(CLASSES), help="the model's classes, separated by commas")
    return line


def main() -> None:
    command.prepare()
    arguments = parser().parse_args()
    command.run("openapi", lambda: print(text(command.names(arguments.classes)), end=""))
