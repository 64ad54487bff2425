"""Loads an MLflow model folder as a server would and checks its answer to its own canary photo.

Run as `python -m eye_disease.registry.verify FOLDER`, in a process of its own: the model brings its own `model_code`, which
must be imported from its folder, so nothing here imports that package before the model is loaded.
"""

import sys
from pathlib import Path

import mlflow
import pandas as pd


def canary_problems(model_folder: Path) -> list[str]:
    """What is wrong with the model's answer to its canary photo, a sentence each; empty if it is as expected."""
    model = mlflow.pyfunc.load_model(str(model_folder))
    from model_code.canary import canary_photo, differences, expected_answer

    package = model_folder / "artifacts" / "package"
    answers = model.predict(pd.DataFrame({"image": [canary_photo(package)]}))
    return differences(answers.iloc[0].to_dict(), expected_answer(package))


if __name__ == "__main__" and (problems := canary_problems(Path(sys.argv[1]))):
    sys.exit("The model's answer to its canary photo is wrong: " + "; ".join(problems))
