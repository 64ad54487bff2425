"""Heatmaps of photos, asked of the very version that answered, in a process of its own with that version's code."""

import logging
import tempfile
from pathlib import Path

from eye_disease.common.errors import TrackingUnavailableError
from eye_disease.common.mlflow_client import tracking_call
from eye_disease.common.model_process import ModelProcessError, heatmaps
from eye_disease.common.text import clean
from eye_disease.registry.versions import FetchedVersion, VersionError

_logger = logging.getLogger(__name__)


def registered_heatmaps(name: str, version: str, photos: list[Path], mlflow_timeout_seconds: int) -> list[str | None]:
    """Base64 of a PNG for each photo; None where the version makes none, cannot be fetched, or is in no registry."""
    none: list[str | None] = [None] * len(photos)
    if not version.isdecimal():
        return none
    with tempfile.TemporaryDirectory() as folder:
        try:
            with tracking_call(mlflow_timeout_seconds):
                fetched = FetchedVersion.fetch(name, version, Path(folder))
            return heatmaps(fetched.folder, photos)
        except (VersionError, ModelProcessError, TrackingUnavailableError) as error:
            _logger.warning("The photos of version %s stand without heatmaps: %s", clean(version), error)
            return none
