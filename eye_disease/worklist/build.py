"""From the log and the clinic's folder of photos to a page of work."""

import logging
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from eye_disease.common.errors import TrackingUnavailableError, UserError
from eye_disease.common.mlflow_client import tracking_call
from eye_disease.common.model_process import ModelProcessError
from eye_disease.common.model_process import heatmaps as ask_heatmaps
from eye_disease.common.text import clean
from eye_disease.evaluation.photo_files import hash_photos, photo_files
from eye_disease.records.labels import LabelBook
from eye_disease.records.storage import Storage
from eye_disease.registry.versions import FetchedVersion, VersionError
from eye_disease.worklist.candidates import candidates, choose
from eye_disease.worklist.page import page

_logger = logging.getLogger(__name__)
HeatmapsOf = Callable[[str, list[Path]], list[str | None]]
"""(version, image files) -> base64 of PNGs, None where there is none."""


class WorklistError(UserError):
    """There is nothing to put on a list."""


@dataclass(frozen=True)
class Worklist:
    """A page and what is on it."""

    html: str
    photos: int
    by_lot: int
    candidates: int
    without_heatmap: int


def build(
    log: Storage,
    model: str,
    folder: Path,
    since: datetime,
    limit: int,
    heatmaps_of: HeatmapsOf,
    seed: int,
    drifted: Collection[tuple[str, str]] = (),
    progress: Callable[[str, int, int], None] = lambda step, done, total: None,
) -> Worklist:
    """The page of at most `limit` photos, of answers since `since`, whose files are below `folder`.

    drifted: versions and their sites whose last window drifted. Raises WorklistError, DataError, OSError.
    """
    book = LabelBook(log, model)
    files = hash_photos(photo_files(folder), progress)
    photos = candidates(log, model, book.read(), files, since, drifted)
    if photos.empty:
        raise WorklistError(
            f"None of the {len(files):,} photos in {folder} was answered by {model} since {since:%Y-%m-%d %H:%M}Z and has "
            "no label yet. Give the folder with the photos as they were sent, byte for byte, or an earlier --since; "
            "`drift_job.py run` ingests the newest records."
        )
    listed = choose(photos, limit, np.random.default_rng(seed))
    heatmaps = _heatmaps(listed, heatmaps_of, progress)
    html = page(model, tuple(sorted(book.classes())), listed, heatmaps)
    return Worklist(html, len(listed), int(listed["by_lot"].sum()), len(photos), len(listed) - len(heatmaps))


def _heatmaps(listed: pd.DataFrame, heatmaps_of: HeatmapsOf, progress: Callable[[str, int, int], None]) -> dict[str, str]:
    """Prediction id -> base64 of a PNG, asked of the very version that answered."""
    heatmaps: dict[str, str] = {}
    for version, rows in listed.groupby("model_version"):
        progress("Asking for heatmaps", len(heatmaps), len(listed))
        pictures = heatmaps_of(str(version), [Path(file) for file in rows["file"]])
        heatmaps |= {name: picture for name, picture in zip(rows["prediction_id"], pictures, strict=True) if picture}
    return heatmaps


def registered_heatmaps(name: str, version: str, photos: list[Path], mlflow_timeout_seconds: int) -> list[str | None]:
    """Base64 of a PNG for each photo; None where the version makes none, cannot be fetched, or is in no registry.

    It is asked in a process of its own, with that version's code.
    """
    none: list[str | None] = [None] * len(photos)
    if not version.isdecimal():
        return none
    with tempfile.TemporaryDirectory() as folder:
        try:
            with tracking_call(mlflow_timeout_seconds):
                fetched = FetchedVersion.fetch(name, version, Path(folder))
            return ask_heatmaps(fetched.folder, photos)
        except (VersionError, ModelProcessError, TrackingUnavailableError) as error:
            _logger.warning("The photos of version %s stand without heatmaps: %s", clean(version), error)
            return none
