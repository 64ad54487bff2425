"""Writes docs/reference.md from the code: settings, commands, columns, records, metrics, tags, errors, exit statuses.

`python -m eye_disease.cli.reference` writes the file; a test holds that it is what the code says.
"""

import argparse
import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from importlib import import_module

from eye_disease.cli.drift import COMPARE_EXIT_STATUS, DRIFT_EXIT_STATUS
from eye_disease.cli.main import COMMANDS
from eye_disease.cli.retrain import REFUSED_EXIT_STATUS
from eye_disease.common.errors import BusyError, TrackingUnavailableError
from eye_disease.common.paths import IMPORT_ROOT
from eye_disease.comparison.decision import CompareLimits
from eye_disease.monitoring.metrics import PREDICTION_METRICS, WINDOW_METRICS
from eye_disease.monitoring.settings import MonitoringSettings
from eye_disease.registry.gate.settings import GateSettings
from eye_disease.registry.tags import RUN_TAGS, VERSION_TAGS
from eye_disease.retraining.run import RetrainSettings, TooFewLabelsError
from eye_disease.serving.settings import RegistrySettings
from eye_disease.training.loop import Schedule
from eye_disease.verdict.limits import DriftLimits
from model_code import schema
from model_code.image_error import ERROR_CODES
from model_code.setting_fields import Settings, setting_of
from model_code.settings import ServingSettings

FILE = IMPORT_ROOT / "docs" / "reference.md"
_SETTINGS: tuple[tuple[str, type[Settings]], ...] = (
    ("A served model", ServingSettings),
    ("Registry, and starting a server", RegistrySettings),
    ("The drift job", MonitoringSettings),
    ("What counts as drift", DriftLimits),
    ("The gate", GateSettings),
    ("Champion and challenger", CompareLimits),
    ("Retraining", RetrainSettings),
)
_ELSEWHERE = (
    ("SETTINGS_FILE", ".mlflow-local/settings", "What `start_mlflow.sh` wrote down for the other commands; `none`: not read."),
    ("MLFLOW_TRACKING_URI", "as MLflow", "Tracking server and registry; a login in it is shown, sent and kept nowhere."),
    ("MLFLOW_DISABLE_TELEMETRY", "true", "MLflow reports its usage to its makers; this project's commands turn that off."),
    ("MLFLOW_PORT", "5000", "`start_mlflow.sh`: port of the tracking server."),
    ("SERVE_PORT", "8080", "`start_mlflow.sh`: port of the served model."),
    ("SERVE_WORKERS", "1", "`start_mlflow.sh`: processes that answer."),
    ("PYTHON", "found", "`start_mlflow.sh` and `run_tests.sh`: the Python that makes `.venv`."),
)
"""Settings that no class of this project reads: MLflow's own, and those of the scripts."""
_STATUSES = {
    "every command": {
        0: "done",
        1: "something given is not right; the message says what to change",
        2: "a wrong option",
        TrackingUnavailableError.exit_status: "MLflow's server does not answer now: try again later",
        BusyError.exit_status: "another run is in progress: try again later",
    },
    "`run --fail-on drift`": {DRIFT_EXIT_STATUS: "drift was found"},
    "`compare`": {status: choice for choice, status in COMPARE_EXIT_STATUS.items()},
    "`validate`": {1: "the gate refuses the version"},
    "`retrain`": {
        TooFewLabelsError.exit_status: "too few new labels",
        REFUSED_EXIT_STATUS: "the gate has refused the candidate, which is in Staging",
    },
}


def reference() -> str:
    """The whole page, Markdown."""
    parts = [
        "# Reference",
        "Made by `python -m eye_disease.cli.reference` from the code; do not edit it. How things are used is in the "
        "[README](../README.md) and the other guides.",
        *_settings(),
        *_commands(),
        *_answers(),
        *_records(),
        *_mlflow(),
        *_exit_statuses(),
    ]
    return "\n\n".join(parts) + "\n"


def _settings() -> Iterator[str]:
    yield "## Settings"
    yield "Environment variables. Unset or empty means the default; a wrong value stops the start and is named."
    for title, kind in _SETTINGS:
        meanings = _field_docs(kind)
        rows = []
        for part in fields(kind):
            setting = setting_of(part.metadata)
            rows.append((f"`{setting.name}`", _code(setting.default), setting.allowed, meanings[part.name]))
        yield f"### {title}"
        yield _table(("setting", "default", "allowed", "meaning"), rows)
    yield "### MLflow and the scripts"
    yield _table(("setting", "default", "meaning"), [(f"`{name}`", _code(value), text) for name, value, text in _ELSEWHERE])


def _field_docs(kind: type) -> dict[str, str]:
    """Field -> the docstring below it."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr) and isinstance(statement.target, ast.Name):
            docs[statement.target.id] = " ".join(ast.literal_eval(following.value).split())
    return docs


def _commands() -> Iterator[str]:
    yield "## Commands"
    yield (
        "`eye-disease COMMAND`, or the scripts `register.py`, `drift_job.py`, `train.py`, `retrain.py`, `serve.py` and "
        "`proxy.py`, which take the same words and options. `--help` says the same."
    )
    for word, (module, name) in COMMANDS.items():
        parser = import_module(f"eye_disease.cli.{module}").parser()
        about = parser.description or ""
        if name:
            (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
            parser = commands.choices[name]
            about = next(str(choice.help) for choice in commands._choices_actions if choice.dest == name)
        yield f"### {word}"
        yield _sentence(" ".join(about.split()))
        rows = [_option(action) for action in parser._actions if action.dest not in {"help", "verbose"}]
        if rows:
            yield _table(("option", "default", "meaning"), rows)


_SCHEDULE = _field_docs(Schedule)
"""The options of a training that its command line leaves to their class."""


def _option(action: argparse.Action) -> tuple[str, str, str]:
    name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    choices = "|".join(map(str, action.choices or ()))
    value = "" if action.nargs == 0 or not action.option_strings else f" {choices or action.metavar or action.dest.upper()}"
    nothing = action.default is None or action.default is False or action.default in ("", argparse.SUPPRESS)
    shown = str(action.default).removeprefix(f"{IMPORT_ROOT}/")
    default = "needed" if action.required and action.nargs != argparse.REMAINDER else "" if nothing else f"`{shown}`"
    meaning = _SCHEDULE.get(action.dest) if (action.help or "").startswith("see ") else action.help
    return f"`{name}{value}`", default, _sentence(meaning or "")


def _answers() -> Iterator[str]:
    yield "## Request and answer"
    yield "Columns of a request; a request is a table, one row a photo."
    yield _meanings("column", schema.REQUEST_COLUMNS)
    yield "Params, in JSON payloads:"
    params = [(f"`{name}`", _code(str(value).lower()), schema.PARAM_MEANINGS[name]) for name, value in schema.PARAMS.items()]
    yield _table(("param", "default", "meaning"), params)
    yield "Columns of an answer, one row a photo, in order; `heatmap_png` (base64) follows if asked for."
    yield _table(
        ("column", "type", "meaning"),
        [(f"`{name}`", kind.name, meaning) for name, (kind, meaning) in schema.ANSWER_COLUMNS.items()],
    )
    yield "### Error codes"
    yield "A bad photo never fails its neighbours: its row has one of these in `error_code`."
    yield _meanings("code", ERROR_CODES)


def _records() -> Iterator[str]:
    yield "## Record"
    yield (
        "One JSON line a photo, written before the answer leaves: the answer's columns but `heatmap_png`, and these. Never the "
        "photo, its EXIF data or its file name."
    )
    yield _meanings("field", schema.LOG_FIELDS | schema.FACT_FIELDS | schema.VERSION_FIELDS)


def _mlflow() -> Iterator[str]:
    yield "## Metrics"
    yield "Of the run `monitoring <model> <version>`, in the time of the data. Of each prediction; its step is its number:"
    yield _meanings("metric", PREDICTION_METRICS)
    yield "Of each window; its step is its number. Left out where there is nothing to say:"
    yield _meanings("metric", WINDOW_METRICS)
    yield "## Tags"
    yield "Of a model version:"
    yield _meanings("tag", VERSION_TAGS)
    yield "Of runs of this project:"
    yield _meanings("tag", RUN_TAGS)


def _exit_statuses() -> Iterator[str]:
    yield "## Exit statuses"
    rows = [(command, str(code), text) for command, codes in _STATUSES.items() for code, text in codes.items()]
    yield _table(("command", "status", "meaning"), [(command, code, text) for command, code, text in rows])


def _meanings(head: str, meanings: Mapping[str, str]) -> str:
    return _table((head, "meaning"), [(f"`{name}`", text) for name, text in meanings.items()])


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _code(default: str) -> str:
    return f"`{default}`" if " " not in default and default not in {"none", "found"} else default


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if not text or text.endswith((".", "?")) else f"{text}."


def main() -> None:
    FILE.write_text(reference())


if __name__ == "__main__":
    main()
