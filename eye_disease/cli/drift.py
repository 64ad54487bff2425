"""Judge whether answers on record can be trusted; labels, replay, comparison, a live table."""

import argparse
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from secrets import randbits

from mlflow import MlflowClient

from eye_disease.cli import command
from eye_disease.cli.parser import Parser
from eye_disease.common.progress import Progress
from eye_disease.common.secrets import hide_secrets
from eye_disease.common.text import clean, one_line
from eye_disease.comparison.compare import compare
from eye_disease.comparison.decision import CompareLimits
from eye_disease.comparison.report import text, write_comparison
from eye_disease.monitoring.exporter import start_exporter
from eye_disease.monitoring.job import DriftJob, Outcome
from eye_disease.monitoring.live_table import watch
from eye_disease.monitoring.mlflow_writer import MlflowWriter
from eye_disease.monitoring.references import ProductionWindow
from eye_disease.monitoring.replay import replay
from eye_disease.monitoring.schedule import parse_interval, run_every, stop_on_signals
from eye_disease.monitoring.settings import MonitoringSettings
from eye_disease.monitoring.version_state import Memories
from eye_disease.records.labels import LabelBook
from eye_disease.records.storage import Storage
from eye_disease.records.store import find_stores
from eye_disease.verdict.limits import DriftLimits
from eye_disease.worklist.build import build, registered_heatmaps
from model_code.schema import MODEL_NAME

DRIFT_EXIT_STATUS = 3
"""Exit status of `run --fail-on drift` that has found some."""
_SHOWN_IDS = 5
COMPARE_EXIT_STATUS = {"promote": 0, "keep": 4, "not enough evidence yet": 5}
"""Exit status of `compare` by its decision: `compare && promote` promotes only what it recommends."""


def _run(arguments: argparse.Namespace, settings: MonitoringSettings) -> None:
    def make_writer() -> MlflowWriter:
        return MlflowWriter(MlflowClient(), settings.experiment, settings.mlflow_timeout_seconds)

    reference = ProductionWindow.parse(arguments.reference) if arguments.reference else None
    job = DriftJob(settings, DriftLimits.from_env(), make_writer, arguments.keep_days, reference)
    if arguments.every is None:
        outcomes = _run_once(job)
        if any(outcome.failed for outcome in outcomes):
            sys.exit(1)
        if arguments.fail_on and any(
            outcome.findings and outcome.findings.verdict.status == arguments.fail_on for outcome in outcomes
        ):
            sys.exit(DRIFT_EXIT_STATUS)
        return
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        if arguments.metrics_port:
            read_states = Memories(settings.state_dir).statuses
            stack.callback(start_exporter(arguments.metrics_port, Storage(settings.inference_log), read_states))
        run_every(arguments.every, partial(_run_once, job), stop)


def _run_once(job: DriftJob) -> list[Outcome]:
    outcomes = job.run()
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z"
    for outcome in outcomes:
        print(f"{now} {outcome}", flush=True)
    if not outcomes:
        print(f"{now} No records yet in {hide_secrets(job.log)} (INFERENCE_LOG_DIR).", flush=True)
    return outcomes


def _watch(arguments: argparse.Namespace, settings: MonitoringSettings) -> None:
    with stop_on_signals() as stop:
        watch(Storage(settings.inference_log), Memories(settings.state_dir).statuses, stop)


def _worklist(arguments: argparse.Namespace, settings: MonitoringSettings) -> None:
    """Write the page and say what is on it."""
    log, memories = Storage(settings.inference_log), Memories(settings.state_dir)
    versions = [store.version for store in find_stores(log) if store.model == arguments.name]
    drifted = {(version, site) for version in versions for site in memories.read(arguments.name, version).sites}
    since = datetime.now(UTC) - timedelta(seconds=arguments.since)
    heatmaps_of = partial(registered_heatmaps, arguments.name, mlflow_timeout_seconds=settings.mlflow_timeout_seconds)
    result = build(
        log, arguments.name, arguments.photos, since, arguments.limit, heatmaps_of, randbits(32), drifted, Progress()
    )
    arguments.output.write_text(result.html, encoding="utf-8")
    print(f"{arguments.output}: {result.photos} of {result.candidates} photos, {result.by_lot} of them drawn by lot.")
    if result.without_heatmap:
        print(f"Without a heatmap: {result.without_heatmap}")
    print("Open it in a browser, save the labels (key s), then: python drift_job.py feedback --file labels.csv --by ROLE")


def _feedback(arguments: argparse.Namespace, settings: MonitoringSettings) -> None:
    book, now = LabelBook(Storage(settings.inference_log), arguments.name), datetime.now(UTC)
    if arguments.file:
        imported = book.import_file(Path(arguments.file), arguments.by, now)
    else:
        imported = book.add(arguments.prediction_id, arguments.label, arguments.by, now)
    print(f"Imported {imported.taken:,} label(s).")
    if imported.waiting:
        shown = ", ".join(imported.waiting[:_SHOWN_IDS]) + (", ..." if len(imported.waiting) > _SHOWN_IDS else "")
        print(
            f"Kept, without a record so far: {len(imported.waiting):,} ({shown}). They count once `drift_job.py run` has "
            "ingested their records; an id of no answer never does."
        )
    if imported.refused:
        print(f"Rows not taken: {len(imported.refused):,}")
        print("\n".join(imported.refused), file=sys.stderr)


def _replay(arguments: argparse.Namespace, settings: MonitoringSettings) -> None:
    photo = Path(arguments.image).read_bytes()
    storage, wait = Storage(settings.inference_log), settings.mlflow_timeout_seconds
    replayed = replay(storage, arguments.prediction_id, photo, mlflow_timeout_seconds=wait)
    version = f"{clean(replayed.record['model_name'])} version {clean(replayed.record['model_version'])}"
    if not replayed.same:
        sys.exit(f"{version} answers differently now: {one_line('; '.join(replayed.differences))}.")
    print(f"{version} gives the same answer: {clean(replayed.answer['predicted_class'])}, {replayed.answer['confidence']:.3f}.")


def _compare(arguments: argparse.Namespace, settings: MonitoringSettings) -> None:
    versions, now = (arguments.name, arguments.champion, arguments.challenger), datetime.now(UTC)
    comparison = compare(settings, DriftLimits.from_env(), CompareLimits.from_env(), *versions, now)
    print(text(comparison))
    if settings.tracking_enabled:
        print(f"Run: {write_comparison(MlflowClient(), comparison, settings.experiment, settings.mlflow_timeout_seconds)}")
    sys.exit(COMPARE_EXIT_STATUS[comparison.decision.choice])


def parser() -> Parser:
    line = Parser(description=__doc__, example="run")
    commands = line.add_subparsers(
        dest="command", required=True, metavar="run | watch | worklist | feedback | replay | compare"
    )
    summary = "ingest the log, judge due windows, report to MLflow and send alerts; once, or with --every"
    run = commands.add_parser("run", help=summary, description=summary, example="--every 15m --metrics-port 9100")
    run.add_argument("--every", type=_interval, metavar="15m", help="repeat in this process until it is stopped")
    run.add_argument("--keep-days", type=_count, metavar="N", help="remove records older than this; without it all are kept")
    run.add_argument("--metrics-port", type=int, metavar="PORT", help="with --every: Prometheus metrics of the log")
    run.add_argument("--fail-on", choices=("drift",), help=f"exit status {DRIFT_EXIT_STATUS} if this run finds drift")
    run.add_argument("--reference", default="", metavar="window:FROM..TO", help="production data, not the model's reference")
    summary = "a live table of the served versions; Ctrl-C ends it"
    live = commands.add_parser("watch", help=summary, description=summary, example="")
    summary = "one page of answers that a specialist should look at, with their photos; nothing leaves this machine"
    work = commands.add_parser(
        "worklist", help=summary, description=summary, example="--photos /clinic/photos --since 7d --limit 60"
    )
    work.add_argument("--name", default=MODEL_NAME, help="registered model name")
    work.add_argument("--photos", type=Path, required=True, help="folder with the photos as they were sent, at any depth")
    work.add_argument("--since", type=_interval, default="7d", metavar="7d", help="how long ago the oldest answer may be")
    work.add_argument("--limit", type=_count, default=60, help="photos on the page")
    work.add_argument("--output", type=Path, default=Path("worklist.html"), help="the page")
    summary = "say what photos really show"
    feedback = commands.add_parser("feedback", help=summary, description=summary, example="--file labels.csv --by grader-1")
    feedback.add_argument("--name", default=MODEL_NAME, help="registered model name")
    feedback.add_argument("--prediction-id", help="of one answer")
    feedback.add_argument("--label", help="its class")
    feedback.add_argument("--file", help="or many: a table (CSV, .xlsx, Parquet) of prediction_id, label and if wanted by, at")
    feedback.add_argument("--by", required=True, help="who says so: a role or pseudonym")
    summary = "ask the version that answered again, and compare"
    example = "--prediction-id 01890a5d-ac96-774b-bcce-b302099a8057 --image photo.jpg"
    again = commands.add_parser("replay", help=summary, description=summary, example=example)
    again.add_argument("--prediction-id", required=True, help="of the answer")
    again.add_argument("--image", required=True, help="the photo, byte for byte as it was sent")
    summary = "two versions side by side, and whether to change over"
    pair = commands.add_parser("compare", help=summary, description=summary, example="--champion 1 --challenger 2")
    pair.add_argument("--name", default=MODEL_NAME, help="registered model name")
    pair.add_argument("--champion", required=True, metavar="VERSION", help="the one in Production")
    pair.add_argument("--challenger", required=True, metavar="VERSION", help="the one that may follow it")
    actions = ((run, _run), (live, _watch), (work, _worklist), (feedback, _feedback), (again, _replay), (pair, _compare))
    for parsed, action in actions:
        parsed.set_defaults(action=action)
    return line


def _interval(text: str) -> float:
    try:
        return parse_interval(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def _check(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if arguments.command == "run" and arguments.every is None and arguments.metrics_port:
        parser.error("--metrics-port needs --every: a single run ends before anybody can ask for metrics")
    if arguments.command == "run" and arguments.every is not None and arguments.fail_on:
        parser.error("--fail-on is for single runs; one with --every has no exit status")
    if arguments.command == "feedback" and bool(arguments.file) == bool(arguments.prediction_id and arguments.label):
        parser.error("feedback needs either --file, or --prediction-id and --label")


def main() -> None:
    command.prepare()
    line = parser()
    arguments = line.parse_args(sys.argv[1:] or ["run"])
    _check(line, arguments)
    command.run(f"drift_job.py {arguments.command}", lambda: arguments.action(arguments, MonitoringSettings.from_env()))
