"""Peer (a): a pyfunc that answers a constant table, to show what MLflow's scoring server costs by itself.

The table has our answer's columns, so that writing it as JSON counts as the server's work and not as ours.
"""

from typing import Any

import mlflow
import pandas as pd

_ANSWER = {
    "prediction_id": "00000000-0000-7000-8000-000000000000",
    "image_id": "0",
    "predicted_class": "normal",
    "confidence": 0.5,
    "prob_cataract": 0.1,
    "prob_diabetic_retinopathy": 0.2,
    "prob_glaucoma": 0.2,
    "prob_normal": 0.5,
    "decision": "review",
    "low_confidence": True,
    "other_finding": False,
    "other_finding_score": 0.1,
    "gradable": True,
    "out_of_distribution": False,
    "ood_score": 0.5,
    "unfamiliar_camera": False,
    "inference_time_ms": 0.0,
    "model_version": "none",
    "error": None,
    "error_code": None,
}


class NoopModel(mlflow.pyfunc.PythonModel):
    """Looks at nothing."""

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        """Make the answer once."""
        self._table = pd.DataFrame([_ANSWER], dtype=object)

    def predict(
        self, context: mlflow.pyfunc.PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return the constant table."""
        return self._table


mlflow.models.set_model(NoopModel())
