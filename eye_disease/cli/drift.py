"""Judge whether answers on record can be trusted; labels, replay, comparison, a live table."""

import argparse
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from mlflow import MlflowClient

from eye_disease.cli import command
from eye_disease.cli.parser import Parser
from eye_disease.cli.worklist import worklist
from eye_disease.common.secrets import hide_secrets
from eye_disease.common.text import clean, one_line
from eye_disease.comparison.compare import compare
from eye_disease.comparison.limits import CompareLimits
from eye_disease.comparison.report import text
from eye_disease.comparison.writer import write_comparison
from eye_disease.monitoring.exporter import start_exporter
from eye_disease.monitoring.job import DriftJob, Outcome
from eye_disease.monitoring.mlflow_writer import MlflowWriter
from eye_disease.monitoring.references import ProductionWindow
from eye_disease.monitoring.replay import replay
from eye_disease.monitoring.schedule import parse_interval, run_every, stop_on_signals
from eye_disease.monitoring.settings import MonitoringSettings
from eye_disease.monitoring.version_state import Memories
from eye_disease.monitoring.watch import watch
from eye_disease.records.labels import LabelBook
from eye_disease.records.storage import Storage
from eye_disease.verdict.limits import DriftLimits
from model_code.schema import MODEL_NAME

DRIFT_EXIT_STATUS = 3
"""Exit status of `run --fail-on drift` that has found some."""
_SHOWN_IDS = 5
COMPARE_EXIT_STATUS = {"promote": 0, "keep": 4, "not enough evidence yet": 5}
"""Exit status of `compare` by its decision: `compare && promote` promotes only what it recommends."""


def _run(asked: argparse.Namespace, settings: MonitoringSettings) -> None:
    def make_writer() -> MlflowWriter:
        return MlflowWriter(MlflowClient(), settings.experiment, settings.mlflow_timeout_seconds)

    reference = ProductionWindow.parse(asked.reference) if asked.reference else None
    job = DriftJob(settings, DriftLimits.from_env(), make_writer, asked.keep_days, reference)
    if asked.every is None:
        outcomes = _run_once(job)
        if any(one.failed for one in outcomes):
            sys.exit(1)
        if asked.fail_on and any(one.findings and one.findings.verdict.status == asked.fail_on for one in outcomes):
            sys.exit(DRIFT_EXIT_STATUS)
        return
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        if asked.metrics_port:
            read_states = Memories(settings.state_dir).statuses
            stack.callback(start_exporter(asked.metrics_port, Storage(settings.inference_log), read_states))
        run_every(asked.every, partial(_run_once, job), stop)


def _run_once(job: DriftJob) -> list[Outcome]:
    outcomes = job.run()
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z"
    for one in outcomes:
        print(f"{now} {one}", flush=True)
    if not outcomes:
        print(f"{now} No records yet in {hide_secrets(job.log)} (INFERENCE_LOG_DIR).", flush=True)
    return outcomes


def _watch(asked: argparse.Namespace, settings: MonitoringSettings) -> None:
    with stop_on_signals() as stop:
        watch(Storage(settings.inference_log), Memories(settings.state_dir).statuses, stop)


def _feedback(asked: argparse.Namespace, settings: MonitoringSettings) -> None:
    book, now = LabelBook(Storage(settings.inference_log), asked.name), datetime.now(UTC)
    if asked.file:
        done = book.import_file(Path(asked.file), asked.by, now)
    else:
        done = book.add(asked.prediction_id, asked.label, asked.by, now)
    print(f"Imported {done.taken:,} label(s).")
    if done.waiting:
        shown = ", ".join(done.waiting[:_SHOWN_IDS]) + (", ..." if len(done.waiting) > _SHOWN_IDS else "")
        print(
            f"Kept, without a record so far: {len(done.waiting):,} ({shown}). They count once `drift_job.py run` has taken "
            "their records in; an id of no answer never does."
        )
    if done.refused:
        print(f"Rows not taken: {len(done.refused):,}")
        print("\n".join(done.refused), file=sys.stderr)


def _replay(asked: argparse.Namespace, settings: MonitoringSettings) -> None:
    photo = Path(asked.image).read_bytes()
    storage, wait = Storage(settings.inference_log), settings.mlflow_timeout_seconds
    done = replay(storage, asked.prediction_id, photo, mlflow_timeout_seconds=wait)
    version = f"{clean(done.record['model_name'])} version {clean(done.record['model_version'])}"
    if not done.same:
        sys.exit(f"{version} answers otherwise now: {one_line('; '.join(done.differences))}.")
    print(f"{version} gives the same answer: {clean(done.answer['predicted_class'])}, {done.answer['confidence']:.3f}.")


def _compare(asked: argparse.Namespace, settings: MonitoringSettings) -> None:
    versions, now = (asked.name, asked.champion, asked.challenger), datetime.now(UTC)
    found = compare(settings, DriftLimits.from_env(), CompareLimits.from_env(), *versions, now)
    print(text(found))
    if settings.tracking_enabled:
        print(f"Run: {write_comparison(MlflowClient(), found, settings.experiment, settings.mlflow_timeout_seconds)}")
    sys.exit(COMPARE_EXIT_STATUS[found.decision.choice])


def parser() -> Parser:
    made = Parser(description=__doc__, example="run")
    commands = made.add_subparsers(
        dest="command", required=True, metavar="run | watch | worklist | feedback | replay | compare"
    )
    said = "ingest the log, judge due windows, report to MLflow and send alerts; once, or with --every"
    run = commands.add_parser("run", help=said, description=said, example="--every 15m --metrics-port 9100")
    run.add_argument("--every", type=_interval, metavar="15m", help="again and again in this process, until it is stopped")
    run.add_argument("--keep-days", type=_count, metavar="N", help="remove records older than this; without it all are kept")
    run.add_argument("--metrics-port", type=int, metavar="PORT", help="with --every: Prometheus metrics of the log")
    run.add_argument("--fail-on", choices=("drift",), help=f"exit status {DRIFT_EXIT_STATUS} if this run finds drift")
    run.add_argument("--reference", default="", metavar="window:FROM..TO", help="production data, not the model's reference")
    said = "a live table of the served versions; Ctrl-C ends it"
    live = commands.add_parser("watch", help=said, description=said, example="")
    said = "one page of answers that a specialist should look at, with their photos; nothing leaves this machine"
    work = commands.add_parser("worklist", help=said, description=said, example="--photos /clinic/photos --since 7d --limit 60")
    work.add_argument("--name", default=MODEL_NAME, help="registered model name")
    work.add_argument("--photos", type=Path, required=True, help="folder with the photos as they were sent, at any depth")
    work.add_argument("--since", type=_interval, default="7d", metavar="7d", help="how long ago the oldest answer may be")
    work.add_argument("--limit", type=_count, default=60, help="photos on the page")
    work.add_argument("--output", type=Path, default=Path("worklist.html"), help="the page")
    said = "say what photos really show"
    feedback = commands.add_parser("feedback", help=said, description=said, example="--file labels.csv --by grader-1")
    feedback.add_argument("--name", default=MODEL_NAME, help="registered model name")
    feedback.add_argument("--prediction-id", help="of one answer")
    feedback.add_argument("--label", help="its class")
    feedback.add_argument("--file", help="or many: a table (CSV, .xlsx, Parquet) of prediction_id, label and if wanted by, at")
    feedback.add_argument("--by", required=True, help="who says so: a role or pseudonym")
    said = "ask the version that answered again, and compare"
    example = "--prediction-id 01890a5d-ac96-774b-bcce-b302099a8057 --image photo.jpg"
    again = commands.add_parser("replay", help=said, description=said, example=example)
    again.add_argument("--prediction-id", required=True, help="of the answer")
    again.add_argument("--image", required=True, help="the photo, byte for byte as it was sent")
    said = "two versions side by side, and whether to change over"
    pair = commands.add_parser("compare", help=said, description=said, example="--champion 1 --challenger 2")
    pair.add_argument("--name", default=MODEL_NAME, help="registered model name")
    pair.add_argument("--champion", required=True, metavar="VERSION", help="the one in Production")
    pair.add_argument("--challenger", required=True, metavar="VERSION", help="the one that may follow it")
    actions = ((run, _run), (live, _watch), (work, worklist), (feedback, _feedback), (again, _replay), (pair, _compare))
    for parsed, action in actions:
        parsed.set_defaults(action=action)
    return made


def _interval(text: str) -> float:
    try:
        return parse_interval(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def _check(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> None:
    if asked.command == "run" and asked.every is None and asked.metrics_port:
        parser.error("--metrics-port needs --every: a single run ends before anybody can ask for metrics")
    if asked.command == "run" and asked.every is not None and asked.fail_on:
        parser.error("--fail-on is for single runs; one with --every has no exit status")
    if asked.command == "feedback" and bool(asked.file) == bool(asked.prediction_id and asked.label):
        parser.error("feedback needs either --file, or --prediction-id and --label")


def main() -> None:
    command.prepare()
    line = parser()
    asked = line.parse_args(sys.argv[1:] or ["run"])
    _check(line, asked)
    command.run(f"drift_job.py {asked.command}", lambda: asked.action(asked, MonitoringSettings.from_env()))
