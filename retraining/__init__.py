"""The logic behind `retrain.py`: the loop that joins monitoring's labels, training, and the registry's gate and stages."""

import model_code  # noqa: F401  its setting for MLflow must stand before MLflow is imported
