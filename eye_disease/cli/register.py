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


def _register(asked: argparse.Namespace) -> None:
    check_name(asked.name)  # before a conversion that takes minutes
    with tempfile.TemporaryDirectory() as folder:
        package = Path(asked.package) if asked.package else BUNDLED_PACKAGE
        if asked.model:
            from eye_disease.registry.keras_import import find_layers_file, package_own_model  # imports TensorFlow

            package = Path(folder)
            recipe = Recipe(asked.image_size, crop="none", scaling=asked.preprocessing, resize=asked.resize)
            names, layers = command.names(asked.classes), find_layers_file(asked.custom_objects)
            package_own_model(Path(asked.model), package, asked.name, names, recipe, asked.runtime, layers)
        registered = register_package(package, asked.name)
    print(f"Registered {registered.name} version {registered.version} (run {registered.run_id})")
    if asked.stage:
        _move(asked, registered.version)
    if asked.score:
        print(json.dumps(score_photo(registered, Path(asked.score)), indent=2))


def _promote(asked: argparse.Namespace) -> None:
    _move(asked, asked.version, reason=asked.reason, force=asked.force)


def _move(asked: argparse.Namespace, version: str, reason: str = "", force: bool = False) -> None:
    labelled = Path(asked.data) if asked.data else None
    step = promote(asked.name, version, asked.stage, reason=reason, labelled=labelled, force=force)
    if step is None:
        print(f"{asked.name} version {version} is in {asked.stage} already")
    else:
        print(f"{asked.name} version {step.version}: {step.source} -> {step.target} (transition {step.number})")


def _validate(asked: argparse.Namespace) -> None:
    from eye_disease.registry.gate.checks import as_table
    from eye_disease.registry.gate.gate import validate  # takes seconds to import, and a roll back is in a hurry

    settings = GateSettings.from_env()
    settings = replace(settings, photos=Path(asked.photos)) if asked.photos else settings
    result = validate(asked.name, asked.version, Path(asked.data) if asked.data else None, settings)
    print("\n".join(as_table(result.checks)))
    print(f"Judged on {result.basis}. Evidence: run {result.evidence_run_id}")
    print(f"{asked.name} version {asked.version}: {'passed' if result.passed else 'REFUSED'}")
    if not result.passed:
        sys.exit(1)


def _rollback(asked: argparse.Namespace) -> None:
    step = rollback(asked.name, asked.reason, only=asked.version or None)
    print(f"{asked.name} version {step.version} is in Production again, version {', '.join(step.replaced)} in Archived.")
    print(f"No gate was run. (transition {step.number})")


def _history(asked: argparse.Namespace) -> None:
    found = review(asked.name)
    print("\n".join(held_at(found.records, read_time(asked.at)) if asked.at else table(found.records)))
    for note in found.notes:
        print(f"NOTE: {note}", file=sys.stderr)


def _list(asked: argparse.Namespace) -> None:
    versions = list_versions(asked.name)
    if not versions:
        print(f"{asked.name} has no versions in this registry.")
    else:
        print(_LISTED.format("version", "stage", "aliases", "registered", "runtime", "run"))
    for one in versions:
        aliases, runtime = " ".join(f"@{one_line(alias)}" for alias in one.aliases), one_line(one.runtime)
        print(_LISTED.format(one.version, one.stage, aliases, f"{one.created:%Y-%m-%d %H:%M}Z", runtime, one.run_id))


def parser() -> Parser:
    made = Parser(description=__doc__, example="list")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(word: str, said: str, example: str) -> argparse.ArgumentParser:
        return commands.add_parser(word, help=said, description=said, example=example)

    said = "register the bundled model, a trained package, or your own Keras model"
    register = add("register", said, "--package trained_model --stage Staging")
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
    said = "the gate: is a version fit for Production? Moves no stage; exit 1: refused"
    check = add("validate", said, "--version 2 --data photos")
    check.add_argument("--version", required=True, help="its number")
    check.add_argument("--photos", default="", help="folder that a manifest's paths start from (the manifest's own)")
    said = "the last good version into Production again; runs no gate"
    back = add("rollback", said, "--reason 'misses cataracts'")
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
    return made


def main() -> None:
    command.prepare()
    line = parser()
    asked = line.parse_args(sys.argv[1:] or ["register"])
    if asked.command == "register" and asked.model and not asked.classes:
        line.error("--model needs --classes: the class names in the order of the model's outputs, separated by commas")
    command.run(f"register.py {asked.command}", partial(_run, asked))


def _run(asked: argparse.Namespace) -> None:
    wait_briefly(os.environ, RegistrySettings.from_env().timeout_seconds)
    asked.action(asked)
