"""Look at a set of labelled photos before anybody trains on it, and write what is wrong with it as one HTML page."""

import argparse
from pathlib import Path

from eye_disease.audit.audit import audit
from eye_disease.audit.page import findings, page
from eye_disease.cli import command
from eye_disease.cli.parser import Parser
from eye_disease.common.progress import Progress
from eye_disease.evaluation.manifest import of_folder, read_manifest


def parser() -> Parser:
    parser = Parser(description=__doc__, example="--data photos/ --output audit.html")
    photos = parser.add_mutually_exclusive_group(required=True)
    photos.add_argument("--data", type=Path, help="folder with one subfolder a class")
    photos.add_argument("--manifest", type=Path, help="table with path and label, and source, group (patient), split if known")
    parser.add_argument("--photos", type=Path, help="folder that the manifest's paths start from (the manifest's own)")
    parser.add_argument("--package", type=Path, help="a model package that is asked which labels it contradicts")
    parser.add_argument("--output", type=Path, default=Path("audit.html"), help="the page")
    return parser


def main() -> None:
    command.prepare()
    arguments = parser().parse_args()
    command.run("audit", lambda: _audit(arguments))


def _audit(arguments: argparse.Namespace) -> None:
    rows = of_folder(arguments.data) if arguments.data else read_manifest(arguments.manifest)
    result = audit(rows, arguments.data or arguments.photos or arguments.manifest.parent, arguments.package, Progress())
    arguments.output.write_text(page(result, str((arguments.data or arguments.manifest).name)), encoding="utf-8")
    for finding in findings(result):
        print(f"{'! ' if finding.bad else '  '}{finding.text}")
    print(f"The page: {arguments.output}")
