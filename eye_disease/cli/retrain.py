"""From the labels of answered photos to a candidate in Staging that the gate has judged."""

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path

from eye_disease.cli import command
from eye_disease.cli.parser import Parser
from eye_disease.common.paths import CANARY
from eye_disease.monitoring.settings import MonitoringSettings
from eye_disease.retraining.run import GENTLE, Retrained, Retraining, RetrainSettings, retrain
from eye_disease.training.loop import Schedule
from model_code.schema import MODEL_NAME

REFUSED_EXIT_STATUS = 5
"""Exit status: the gate has refused the candidate, which stays in Staging."""


def _path(text: str) -> Path | None:
    """`mlflow run` gives what was left out as an empty text."""
    return Path(text) if text else None


def parser() -> Parser:
    example = "--manifest manifest.csv --photos photos --feedback-photos /clinic/photos"
    parser = Parser(description=__doc__, example=example)
    parser.add_argument("--base", default=f"models:/{MODEL_NAME}/Production", help="the version to start from")
    parser.add_argument("--manifest", type=Path, required=True, help="of the first training: path, label, source, group, split")
    parser.add_argument("--photos", type=_path, help="folder that the manifest's paths start from (the manifest's own)")
    parser.add_argument("--feedback-photos", type=Path, required=True, help="folder with the photos that were sent, as sent")
    parser.add_argument("--patients", type=_path, help="table with path (below that folder) and patient")
    parser.add_argument("--gate-data", type=_path, help="labelled photos for the gate (the validation photos)")
    parser.add_argument("--why", default="", help="kept with the candidate; the drift job says it through RAISED_REASON")
    parser.add_argument("--work", type=Path, default=Path("retraining_work"), help="what resuming needs, and the packages")
    parser.add_argument("--canary", type=Path, default=CANARY, help="photo whose answer is kept")
    for option in fields(Schedule):
        name = f"--{option.name.replace('_', '-')}"
        parser.add_argument(
            name, type=option.type, default=getattr(GENTLE, option.name), help="see eye_disease/training/loop.py"
        )
    return parser


def _retraining(arguments: argparse.Namespace) -> Retraining:
    return Retraining(
        manifest=arguments.manifest,
        photos=arguments.photos or arguments.manifest.parent,
        feedback_photos=arguments.feedback_photos,
        inference_log=MonitoringSettings.from_env().inference_log,
        work=arguments.work,
        canary=arguments.canary,
        base=arguments.base,
        patients=arguments.patients,
        why=arguments.why or os.environ.get("RAISED_REASON") or "asked for by hand",
        gate_data=arguments.gate_data,
        schedule=Schedule(**{option.name: getattr(arguments, option.name) for option in fields(Schedule)}),
    )


def _tell(result: Retrained) -> None:
    name = f"{result.name} version {result.version}"
    print(f"The gate's evidence: run {result.evidence_run_id}")
    if not result.passed:
        print(f"{name} was refused and stays in {result.stage}:", *result.reasons, sep="\n  ")
        sys.exit(REFUSED_EXIT_STATUS)
    if result.stage == "Production":
        print(f"{name} has passed the gate and is in Production (RETRAIN_PROMOTE). Restart the servers to load it.")
    else:
        print(f"{name} has passed the gate and waits in Staging for a person:")
        print(f"  python register.py promote --name {result.name} --version {result.version} --stage Production")


def main() -> None:
    command.prepare()
    arguments = parser().parse_args()
    command.run("retrain.py", lambda: _tell(_retrain(arguments)))


def _retrain(arguments: argparse.Namespace) -> Retrained:
    return retrain(_retraining(arguments), RetrainSettings.from_env(), lambda progress: print(progress, flush=True))
