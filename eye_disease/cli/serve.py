"""Serve the registry's version with `mlflow models serve`; without a registry the last good copy or the bundled model."""

import argparse
import logging
from functools import partial

from eye_disease.cli import command
from eye_disease.cli.parser import Parser
from eye_disease.serving.resolve import resolve
from eye_disease.serving.server import exec_server
from eye_disease.serving.settings import RegistrySettings
from model_code.schema import MODEL_NAME
from model_code.settings import ServingSettings


def parser() -> Parser:
    parser = Parser(description=__doc__, example="--stage Production --port 8083")
    parser.add_argument("--name", default=MODEL_NAME, help="registered model name")
    parser.add_argument("--stage", default="Production", choices=("Production", "Staging"), help="whose version is served")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on")
    parser.add_argument("--workers", type=int, default=1, help="server processes")
    managers = ("local", "uv", "virtualenv", "conda")
    parser.add_argument("--env-manager", default="local", choices=managers, help="what makes the version's environment")
    parser.add_argument(
        "--fallback", action="store_true", help="the last good copy or the bundled model also where the version is refused"
    )
    return parser


def main() -> None:
    command.prepare(logging.INFO)
    arguments = parser().parse_args()
    command.run("serve.py", partial(_serve, arguments))


def _serve(arguments: argparse.Namespace) -> None:
    ServingSettings.from_env()
    model = resolve(arguments.name, arguments.stage, RegistrySettings.from_env(), arguments.fallback)
    print(
        f"Serving {arguments.name} version {model.version} ({model.source}) on http://{arguments.host}:{arguments.port}",
        flush=True,
    )
    exec_server(model, arguments.host, arguments.port, arguments.workers, arguments.env_manager)
