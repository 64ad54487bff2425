"""The logic behind `drift_job.py`: reads the inference log, judges whether answers can still be trusted, writes that to MLflow."""

import model_code  # noqa: F401  its setting for MLflow must stand before MLflow is imported
