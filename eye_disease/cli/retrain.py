"""From the labels of answered photos to a candidate in Staging that the gate has judged."""

import argparse
import logging
import os
import sys
from dataclasses import fields
from pathlib import Path

from mlflow import MlflowException

from eye_disease.common.lock import BUSY_EXIT_STATUS, BusyError
from eye_disease.common.paths import CANARY
from eye_disease.monitoring.settings import MonitoringSettings
from eye_disease.registry.gate.gate import GateError
from eye_disease.retraining.run import GENTLE, Retrained, Retraining, TooFewLabelsError, retrain
from eye_disease.retraining.settings import RetrainSettings
from eye_disease.training.loop import Schedule
from model_code.errors import ImageError
from model_code.schema import MODEL_NAME

TOO_FEW_EXIT_STATUS, REFUSED_EXIT_STATUS = 4, 5
"""Exit statuses: too few new labels, nothing was trained; the gate has refused the candidate, which stays in Staging."""


def _path(text: str) -> Path | None:
    """`mlflow run` gives what was left out as an empty text."""
    return Path(text) if text else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--base", default=f"models:/{MODEL_NAME}/Production", help="the version to start from")
    parser.add_argument("--manifest", type=Path, required=True, help="of the first training: path, label, source, group, split")
    parser.add_argument("--photos", type=_path, help="folder that the manifest's paths start from (the manifest's own)")
    parser.add_argument("--feedback-photos", type=Path, required=True, help="folder with the photos that were sent, as sent")
    parser.add_argument("--patients", type=_path, help="CSV with path (below that folder) and patient")
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


def _asked(given: argparse.Namespace) -> Retraining:
    return Retraining(
        manifest=given.manifest,
        photos=given.photos or given.manifest.parent,
        feedback_photos=given.feedback_photos,
        inference_log=MonitoringSettings.from_env().inference_log,
        work=given.work,
        canary=given.canary,
        base=given.base,
        patients=given.patients,
        why=given.why or os.environ.get("RAISED_REASON") or "asked for by hand",
        gate_data=given.gate_data,
        schedule=Schedule(**{option.name: getattr(given, option.name) for option in fields(Schedule)}),
    )


def _tell(done: Retrained) -> None:
    name = f"{done.name} version {done.version}"
    print(f"The gate's evidence: run {done.evidence_run_id}")
    if not done.passed:
        print(f"{name} was refused and stays in {done.stage}:", *done.reasons, sep="\n  ")
        sys.exit(REFUSED_EXIT_STATUS)
    if done.stage == "Production":
        print(f"{name} has passed the gate and is in Production (RETRAIN_PROMOTE). Servers take it up when they are restarted.")
    else:
        print(f"{name} has passed the gate and waits in Staging for a person:")
        print(f"  python register.py promote --name {done.name} --version {done.version} --stage Production")


def main() -> None:
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    given = _parser().parse_args()
    try:
        done = retrain(_asked(given), RetrainSettings.from_env(), lambda said: print(said, flush=True))
    except BusyError as error:
        print(f"retrain.py: {error}", file=sys.stderr)
        sys.exit(BUSY_EXIT_STATUS)
    except TooFewLabelsError as error:
        print(f"retrain.py: {error}", file=sys.stderr)
        sys.exit(TOO_FEW_EXIT_STATUS)
    except (GateError, ValueError, OSError, ImageError, MlflowException) as error:
        sys.exit(f"retrain.py: {error}")
    _tell(done)
