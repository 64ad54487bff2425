"""Write the nginx configuration that puts two served versions behind one address: A/B split or shadow."""

import os
import shlex
from functools import partial
from pathlib import Path
from typing import Any

from eye_disease.cli import command
from eye_disease.cli.parser import Parser
from eye_disease.serving.proxy import Proxy, nginx_command


def parser() -> Parser:
    parser = Parser(description=__doc__, example="--champion 127.0.0.1:8081 --challenger 127.0.0.1:8082 --percent 10")
    parser.add_argument("--champion", required=True, metavar="HOST:PORT", help="the version in Production")
    other = parser.add_mutually_exclusive_group(required=True)
    other.add_argument("--challenger", default="", metavar="HOST:PORT", help="answers a share of the clients")
    other.add_argument("--shadow", default="", metavar="HOST:PORT", help="gets a copy of each request; its answers go nowhere")
    parser.add_argument("--percent", type=float, default=Proxy.percent, help="of the clients, for the challenger")
    parser.add_argument("--listen", default=Proxy.listen, metavar="HOST:PORT", help="where it answers")
    parser.add_argument("--client-header", default=Proxy.client_header, help="names the client; else its address does")
    parser.add_argument("--timeout-seconds", type=int, default=Proxy.timeout_seconds, help="of challenger or shadow")
    parser.add_argument("--max-body-mb", type=int, default=Proxy.max_body_mb, help="largest request, MiB")
    parser.add_argument("--folder", type=Path, default=Path("proxy"), help="for the configuration and all of nginx's files")
    parser.add_argument("--run", action="store_true", help="then become nginx")
    return parser


def main() -> None:
    command.prepare()
    command.run("proxy.py", partial(_write, **vars(parser().parse_args())))


def _write(folder: Path, run: bool, **options: Any) -> None:
    nginx = nginx_command(Proxy(**options).write(folder))
    if run:
        os.execv(nginx[0], nginx)
    print(f"Run it:       {shlex.join(nginx)}\nAfter changes: {shlex.join([*nginx, '-s', 'reload'])}")
