"""Train a classifier on fundus photos, or calibrate a trained one, and write its package."""

import argparse
from dataclasses import fields
from functools import partial
from pathlib import Path

from eye_disease.cli import command
from eye_disease.cli.parser import Parser
from eye_disease.common.paths import CANARY
from eye_disease.training.loop import Schedule
from eye_disease.training.risk_control import PROMISED, Targets
from eye_disease.training.run import Training, run
from eye_disease.training.split import of_folder, read_manifest
from model_code.promise import Promise


def _path(text: str) -> Path | None:
    """`mlflow run` gives what was left out as an empty text."""
    return Path(text) if text else None


def parser() -> Parser:
    parser = Parser(description=__doc__, example="--data photos --base EfficientNetV2B0 --output trained_model")
    photos = parser.add_mutually_exclusive_group(required=True)
    photos.add_argument("--data", type=_path, help="folder with one subfolder a class")
    photos.add_argument("--manifest", type=_path, help="table with path and label, and source, group (patient), split if known")
    more = "table like the manifest, of photos not of one class: labels other, several, unsure, not_CLASS (training/targets.py)"
    parser.add_argument("--more", type=_path, help=more)
    parser.add_argument("--photos", type=_path, help="folder that the manifest's paths start from (the manifest's own)")
    parser.add_argument("--base", required=True, help="a .keras file, models:/NAME/VERSION, or a name in keras.applications")
    parser.add_argument("--classes", default="", help="class names in the network's order, by commas (alphabetical)")
    parser.add_argument("--image-size", type=int, default=224, help="side of the network's input, pixels")
    parser.add_argument(
        "--frozen", type=float, default=0.0, help="share of the layers, from the input on, that stay as they are"
    )
    parser.add_argument(
        "--fold", action="store_true", help="fold batch normalisation into the convolutions: faster, for a base of like photos"
    )
    parser.add_argument(
        "--quantize", action="store_true", help="deep layers in 8-bit integers: a third faster, probabilities within about .03"
    )
    parser.add_argument("--blend", default="", help=".keras file, the training's origin, to move the trained weights towards")
    parser.add_argument("--blend-share", type=float, default=0.3, help="how far, 0..1")
    parser.add_argument(
        "--teachers", default="", help=".keras files, by commas, whose mean answer is half of each label: distillation"
    )
    parser.add_argument("--drop-bad", action="store_true", help="leave out unreadable photos and those with two labels")
    parser.add_argument("--validation-share", type=float, default=0.15, help="of the photos, where no split is given")
    parser.add_argument("--work", type=Path, default=Path("training_work"), help="what resuming needs; reports and plots")
    parser.add_argument("--canary", type=Path, default=CANARY, help="photo whose answer is kept")
    parser.add_argument("--output", type=Path, default=Path("trained_model"), help="folder of the model package")
    parser.add_argument("--description", default="", help="how the network came to be, for the model's metadata")
    for option in fields(Schedule):
        name = f"--{option.name.replace('_', '-')}"
        parser.add_argument(name, type=option.type, default=option.default, help="see eye_disease/training/loop.py")
    for option in fields(Targets):
        name = f"--{option.name.replace('_', '-')}"
        parser.add_argument(name, type=float, default=option.default, help=f"of the promise: {PROMISED[option.name]}")
    return parser


def main() -> None:
    command.prepare()
    arguments = parser().parse_args()
    command.run("train.py", partial(_train, arguments))


def _train(arguments: argparse.Namespace) -> None:
    rows = of_folder(arguments.data) if arguments.data else read_manifest(arguments.manifest)
    finished = run(
        Training(
            rows=rows,
            folder=arguments.data or arguments.photos or arguments.manifest.parent,
            base=arguments.base,
            work=arguments.work,
            output=arguments.output,
            canary=arguments.canary,
            classes=command.names(arguments.classes) or None,
            size=arguments.image_size,
            frozen=arguments.frozen,
            fold=arguments.fold,
            quantize=arguments.quantize,
            blend=arguments.blend,
            blend_share=arguments.blend_share,
            more=read_manifest(arguments.more) if arguments.more else None,
            teachers=command.names(arguments.teachers),
            drop_bad=arguments.drop_bad,
            validation_share=arguments.validation_share,
            description=arguments.description,
            targets=Targets(**{option.name: getattr(arguments, option.name) for option in fields(Targets)}),
            schedule=Schedule(**{option.name: getattr(arguments, option.name) for option in fields(Schedule)}),
        )
    )
    accuracy, promise = finished.figures.accuracy, finished.facts.promise
    print(f"{arguments.output}: validation accuracy {accuracy.value:.3f} on {accuracy.n} photos")
    if promise is not None:
        print(f"{arguments.output}: {_in_words(promise)}")
    print(f"Register it: python register.py register --package {arguments.output}")


def _in_words(promise: Promise) -> str:
    if promise.error is None:
        return f"no answer is reported: on {promise.patients} validation patients no threshold keeps the promise"
    missed = f", missed eyes {promise.missed.value:.3f} (<= {promise.missed.bound:.3f})" if promise.missed else ""
    error = f"errors among the reported {promise.error.value:.3f} (<= {promise.error.bound:.3f})"
    return f"{promise.reported:.3f} of the validation photos reported; {error}{missed}, with certainty {promise.certainty}"
