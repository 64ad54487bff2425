"""Register a model, move versions through stages, list them."""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from eye_disease.cli import command
from eye_disease.cli.parser import Parser
from eye_disease.common.mlflow_client import wait_briefly
from eye_disease.common.paths import BUNDLED_PACKAGE
from eye_disease.common.text import one_line
from eye_disease.registry.gate.settings import GateSettings
from eye_disease.registry.history.view import held_at, read_time, review, table
from eye_disease.registry.promotion import promote, rollback
from eye_disease.registry.register import check_name, register_package, score_photo
from eye_disease.registry.versions import STAGES, list_versions
from eye_disease.serving.settings import RegistrySettings
from model_code.preprocessing import RESIZES, SCALINGS, Recipe
from model_code.schema import MODEL_NAME

_LISTED = "{:>7}  {:<10}  {:<12}  {:<17}  {:<7}  {}"


def _register(arguments: argparse.Namespace) -> None:
    check_name(arguments.name)  # before a conversion that takes minutes
    with tempfile.TemporaryDirectory() as folder:
        package = Path(arguments.package) if arguments.package else BUNDLED_PACKAGE
        if arguments.model:
            from eye_disease.registry.keras_import import find_layers_file, package_own_model  # imports TensorFlow

            package = Path(folder)
            recipe = Recipe(arguments.image_size, crop="none", scaling=arguments.preprocessing, resize=arguments.resize)
            names, layers = command.names(arguments.classes), find_layers_file(arguments.custom_objects)
            package_own_model(Path(arguments.model), package, arguments.name, names, recipe, arguments.runtime, layers)
        registered = register_package(package, arguments.name)
    print(f"Registered {registered.name} version {registered.version} (run {registered.run_id})")
    if arguments.stage:
        _move(arguments, registered.version)
    if arguments.score:
        print(json.dumps(score_photo(registered, Path(arguments.score)), indent=2))


def _promote(arguments: argparse.Namespace) -> None:
    _move(arguments, arguments.version, reason=arguments.reason, force=arguments.force)


def _move(arguments: argparse.Namespace, version: str, reason: str = "", force: bool = False) -> None:
    labelled = Path(arguments.data) if arguments.data else None
    step = promote(arguments.name, version, arguments.stage, reason=reason, labelled=labelled, force=force)
    if step is None:
        print(f"{arguments.name} version {version} is in {arguments.stage} already")
    else:
        print(f"{arguments.name} version {step.version}: {step.source} -> {step.target} (transition {step.number})")


def _validate(arguments: argparse.Namespace) -> None:
    from eye_disease.registry.gate.checks import as_table
    from eye_disease.registry.gate.gate import validate  # takes seconds to import, and a roll back is in a hurry

    settings = GateSettings.from_env()
    settings = replace(settings, photos=Path(arguments.photos)) if arguments.photos else settings
    result = validate(arguments.name, arguments.version, Path(arguments.data) if arguments.data else None, settings)
    print("\n".join(as_table(result.checks)))
    print(f"Judged on {result.basis}. Evidence: run {result.evidence_run_id}")
    print(f"{arguments.name} version {arguments.version}: {'passed' if result.passed else 'REFUSED'}")
    if not result.passed:
        sys.exit(1)


def _rollback(arguments: argparse.Namespace) -> None:
    step = rollback(arguments.name, arguments.reason, only=arguments.version or None)
    print(f"{arguments.name} version {step.version} is in Production again, version {', '.join(step.replaced)} in Archived.")
    print(f"No gate was run. (transition {step.number})")


def _history(arguments: argparse.Namespace) -> None:
    past = review(arguments.name)
    print("\n".join(held_at(past.records, read_time(arguments.at)) if arguments.at else table(past.records)))
    for note in past.notes:
        print(f"NOTE: {note}", file=sys.stderr)


def _list(arguments: argparse.Namespace) -> None:
    versions = list_versions(arguments.name)
    if not versions:
        print(f"{arguments.name} has no versions in this registry.")
    else:
        print(_LISTED.format("version", "stage", "aliases", "registered", "runtime", "run"))
    for entry in versions:
        aliases, runtime = " ".join(f"@{one_line(alias)}" for alias in entry.aliases), one_line(entry.runtime)
        print(_LISTED.format(entry.version, entry.stage, aliases, f"{entry.created:%Y-%m-%d %H:%M}Z", runtime, entry.run_id))


def parser() -> Parser:
    line = Parser(description=__doc__, example="list")
    commands = line.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(word: str, summary: str, example: str) -> argparse.ArgumentParser:
        return commands.add_parser(word, help=summary, description=summary, example=example)

    summary = "register the bundled model, a trained package, or your own Keras model"
    register = add("register", summary, "--package trained_model --stage Staging")
    register.add_argument(
        "--model", default="", help="your own .keras or .h5 classifier, or SavedModel; without it the bundled"
    )
    register.add_argument("--custom-objects", default="", metavar="MODULE", help="Python file with your model's own layers")
    register.add_argument("--package", default="", help="a model package that train.py has written")
    register.add_argument("--classes", default="", help="your model's classes in the order of its outputs: a,b,c")
    register.add_argument("--image-size", type=int, default=224, help="side of your model's square input, pixels")
    register.add_argument("--preprocessing", choices=SCALINGS, default="none", help="pixel range your model was trained on")
    register.add_argument("--resize", choices=list(RESIZES), default="bilinear", help="how your training resized photos")
    register.add_argument("--runtime", choices=("auto", "litert", "keras"), default="auto", help="what serves your model")
    register.add_argument("--stage", choices=STAGES[:2], help="promote the new version at once")
    register.add_argument("--score", default="", metavar="PHOTO", help="then score a photo with the new version")
    promotion = add("promote", "move a version to a stage, and the alias with it", "--version 2 --stage Production")
    promotion.add_argument("--version", required=True, help="its number")
    promotion.add_argument("--stage", choices=STAGES, required=True, help="where it goes")
    promotion.add_argument("--reason", default="", help="kept in the history")
    promotion.add_argument("--force", action="store_true", help="to Production although the gate refuses; needs --reason")
    summary = "the gate: is a version fit for Production? Moves no stage; exit 1: refused"
    check = add("validate", summary, "--version 2 --data photos")
    check.add_argument("--version", required=True, help="its number")
    check.add_argument("--photos", default="", help="folder that a manifest's paths start from (the manifest's own)")
    summary = "the last good version into Production again; runs no gate"
    back = add("rollback", summary, "--reason 'misses cataracts'")
    back.add_argument("--version", default="", help="roll back only if this version is in Production")
    back.add_argument("--reason", default="", help="kept in the history and as a tag of the version that was rolled back")
    past = add("history", "every transition: who, when, from, to, why", "--at 2026-11-01T12:00Z")
    past.add_argument("--at", default="", metavar="TIME", help="what was in each stage then, as 2026-11-01T12:00Z")
    listing = add("list", "the versions, their stages and aliases", "--name my-model")
    for parsed in (register, promotion, check):
        parsed.add_argument("--data", default="", help="labelled photos for the gate: a folder a class, or a manifest")
    actions = {register: _register, promotion: _promote, check: _validate, back: _rollback, past: _history, listing: _list}
    for parsed, action in actions.items():
        parsed.add_argument("--name", default=MODEL_NAME, help="registered model name")
        parsed.set_defaults(action=action)
    return line


def main() -> None:
    command.prepare()
    line = parser()
    arguments = line.parse_args(sys.argv[1:] or ["register"])
    if arguments.command == "register" and arguments.model and not arguments.classes:
        line.error("--model needs --classes: the class names in the order of the model's outputs, separated by commas")
    command.run(f"register.py {arguments.command}", partial(_run, arguments))


def _run(arguments: argparse.Namespace) -> None:
    wait_briefly(os.environ, RegistrySettings.from_env().timeout_seconds)
    arguments.action(arguments)
