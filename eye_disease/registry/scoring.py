"""Scores one photo with a registered version, as a check after registration."""

from pathlib import Path
from typing import Any

import mlflow

from eye_disease.registry.mlflow_model import records_discarded, request_table


def score_photo(name: str, version: str, photo: Path) -> dict[str, Any]:
    """The version's answer to an image file; not put on record, since it is no traffic. Raises MlflowException, OSError."""
    with records_discarded():
        model = mlflow.pyfunc.load_model(f"models:/{name}/{version}")
        return model.predict(request_table(photo.read_bytes(), "example")).iloc[0].to_dict()
