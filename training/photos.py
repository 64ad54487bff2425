"""Labelled photos from a manifest, prepared as serving prepares them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from model_code.decode import decode
from model_code.preprocessing import Recipe, prepare

MAX_PIXELS = 100_000_000


@dataclass(frozen=True)
class LabelledViews:
    """Prepared photos of one split."""

    views: np.ndarray
    """uint8 (N, S, S, 3) RGB"""
    labels: np.ndarray
    """int (N,): index into the classes"""
    sources: np.ndarray
    """str (N,): where each photo comes from"""


def read_manifest(path: Path, classes: tuple[str, ...]) -> pd.DataFrame:
    """A manifest CSV with columns path, label, source, split. Raises ValueError naming what is missing or unknown."""
    manifest = pd.read_csv(path)
    if missing := {"path", "label", "source", "split"} - set(manifest.columns):
        raise ValueError(f"{path} lacks the columns {sorted(missing)}. Expected path, label, source and split.")
    if unknown := set(manifest["label"]) - set(classes):
        raise ValueError(f"{path} has labels {sorted(unknown)}. Expected only {list(classes)}.")
    return manifest


def load_views(folder: Path, rows: pd.DataFrame, classes: tuple[str, ...], recipe: Recipe) -> LabelledViews:
    """Decode and prepare the photos of manifest rows, below `folder`. Raises ImageError for one that cannot be decoded."""

    def view(path: str) -> np.ndarray:
        return prepare(decode((folder / path).read_bytes(), recipe.working_side, MAX_PIXELS).image, recipe)

    with ThreadPoolExecutor() as executor:
        views = np.stack(list(executor.map(view, rows["path"])))
    return LabelledViews(views, rows["label"].map(classes.index).to_numpy(), rows["source"].to_numpy())
