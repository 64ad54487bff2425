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
    asked = parser().parse_args()
    command.run("audit", lambda: _audit(asked))


def _audit(asked: argparse.Namespace) -> None:
    rows = of_folder(asked.data) if asked.data else read_manifest(asked.manifest)
    found = audit(rows, asked.data or asked.photos or asked.manifest.parent, asked.package, Progress())
    asked.output.write_text(page(found, str((asked.data or asked.manifest).name)), encoding="utf-8")
    for finding in findings(found):
        print(f"{'! ' if finding.bad else '  '}{finding.text}")
    print(f"The page: {asked.output}")
