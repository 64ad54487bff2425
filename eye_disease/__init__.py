"""Everything around the served model: what was answered, whether it can be trusted, and which version answers next."""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # must stand before MLflow is imported: nothing is sent anywhere
