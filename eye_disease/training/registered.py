"""A registered version as the base of a training."""

from pathlib import Path

import mlflow

from eye_disease.common.errors import UserError
from model_code.package import ModelFacts, keras_file
from model_code.pyfunc_model import PACKAGE_ARTIFACT


def fetch(uri: str, folder: Path) -> tuple[Path, ModelFacts]:
    """Download `models:/NAME/VERSION` (or a stage, or an alias) below `folder`: its Keras file and its facts.

    Raises mlflow.MlflowException where there is no such version, ValueError where it was not made for fundus photos.
    """
    model = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    package = model / "artifacts" / PACKAGE_ARTIFACT
    facts = ModelFacts.load(package)
    if facts.recipe.crop != "fundus":
        raise UserError(
            f"{uri} takes whole photos (crop={facts.recipe.crop!r}), and training crops to the retinal disc. "
            "Train its Keras file with --base FILE.keras instead."
        )
    return keras_file(package), facts
