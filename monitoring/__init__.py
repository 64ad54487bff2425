"""The logic behind `drift_job.py`: reads the log, judges whether answers can still be trusted, tells MLflow."""

import model_code  # noqa: F401  its setting for MLflow must stand before MLflow is imported
