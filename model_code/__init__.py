"""Everything the served model needs, shipped inside it. Nothing here imports TensorFlow unless a Keras runtime is asked for."""

import os

# Nothing is sent anywhere the user has not named: MLflow reports its usage to its makers unless told otherwise.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
