"""The logic behind `register.py` and `serve.py`: what goes into the registry, moves through it and is served from it."""

import model_code  # noqa: F401  its setting for MLflow must stand before MLflow is imported
