"""How far a package's LiteRT file may answer from the Keras file it was converted from, and what it is.

Run as `python -m eye_disease.conversion.agreement PACKAGE`, in a process of its own where TensorFlow must not be imported.
"""

import sys
from pathlib import Path

MAX_DIFFERENCE = 0.005
"""Largest difference of a probability between Keras and LiteRT that registration accepts."""


def recompute(package: Path) -> float:
    """Largest difference of a probability on the package's canary photo and its variations; imports TensorFlow."""
    from eye_disease.conversion.litert import largest_difference
    from model_code.canary import canary_photo
    from model_code.decode import decode
    from model_code.package import ModelFacts
    from model_code.settings import ServingSettings

    facts = ModelFacts.load(package)
    max_pixels = ServingSettings.from_env({}).max_image_pixels
    return largest_difference(package, facts, decode(canary_photo(package), facts.recipe.working_side, max_pixels).image)


if __name__ == "__main__":
    print(recompute(Path(sys.argv[1])))
