"""Command line of `training/`: make a model package from a trained network."""

import argparse
import sys
from pathlib import Path

from model_code.errors import ImageError
from model_code.package import ModelFacts
from model_code.preprocessing import Recipe
from model_code.schema import MODEL_NAME
from training.finish import finish


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    package = commands.add_parser("package", help="calibrate a trained Keras network and write its model package")
    package.add_argument("--model", type=Path, required=True, help="trained .keras file")
    package.add_argument("--manifest", type=Path, required=True, help="CSV with path, label, source, split")
    package.add_argument("--photos", type=Path, required=True, help="folder that the manifest's paths start from")
    package.add_argument("--classes", required=True, help="class names in the network's order, separated by commas")
    package.add_argument("--image-size", type=int, default=224, help="side of the network's input, pixels")
    package.add_argument("--canary", type=Path, default=Path(__file__).parent / "samples" / "canary.jpg")
    package.add_argument("--output", type=Path, default=Path(__file__).parent / "models")
    package.add_argument("--description", default="", help="how the network was trained, for the model's metadata")
    asked = parser.parse_args()
    try:
        facts = ModelFacts(MODEL_NAME, tuple(asked.classes.split(",")), Recipe(asked.image_size))
        facts = finish(asked.model, asked.photos, asked.manifest, asked.canary, asked.output, facts, asked.description)
    except (ValueError, ImageError) as error:
        sys.exit(f"train.py package: {error}")
    figures = facts.provenance["validation"]
    print(f"{asked.output}: validation accuracy {figures['accuracy']:.3f} on {figures['photos']} photos")


if __name__ == "__main__":
    main()
