"""What a package's network says of photos: as they are, saved by other programs, and ruined."""

import itertools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from PIL import Image

from eye_disease.training.degrade import DEGRADATIONS
from eye_disease.training.photos import MAX_PIXELS, Photos, view_of
from eye_disease.training.reencode import SIDES, reencoded
from model_code.decode import decode
from model_code.package import LITERT_FILE
from model_code.preprocessing import Recipe, disc_square, prepare, scale
from model_code.runtime import LiteRTRuntime

Item = TypeVar("Item")
Outputs = dict[str, np.ndarray]
"""Name of a network's output -> its values, (N, ...)"""
_DEGRADED_SIDE = 512
"""Pixels a side of a square that is degraded: large enough that saving it again changes it as it changes a photo."""


class PackagedNetwork:
    """The LiteRT network of a package, on as many photos at a time as there are cores."""

    def __init__(self, package: Path, photos: Photos, folder: Path) -> None:
        """folder: where the photos' paths start."""
        self._cores = os.cpu_count() or 1
        self._runtime = LiteRTRuntime(package / LITERT_FILE, self._cores)
        self._photos, self._folder = photos, folder

    def plain(self, rows: pd.DataFrame) -> Outputs:
        """Outputs (N, ...) for photos as they are, in the order of `rows`; none for the feature map."""
        return self._outputs(self._plain, rows.index)

    def reencoded(self, rows: pd.DataFrame, seed: int) -> Outputs:
        """The same for the photos saved again, each in a way of its own."""
        return self._outputs(self._reencoded, _with_seeds(rows["path"], seed))

    def degraded(self, rows: pd.DataFrame, ways: tuple[str, ...], seed: int) -> Outputs:
        """The same for the photos degraded, by each of the ways (of training.degrade) in turn, and then saved again."""
        return self._outputs(self._degraded, zip(_with_seeds(rows["path"], seed), itertools.cycle(ways)))

    def _plain(self, place: int) -> np.ndarray:
        return view_of(self._photos.squares[place], self._photos.recipe)

    def _reencoded(self, item: tuple[str, np.random.Generator]) -> np.ndarray:
        path, rng = item
        return self._served(reencoded(self._image(path), rng))

    def _degraded(self, item: tuple[tuple[str, np.random.Generator], str]) -> np.ndarray:
        (path, rng), way = item
        square = np.asarray(disc_square(self._image(path), Recipe(_DEGRADED_SIDE)))
        return self._served(reencoded(Image.fromarray(DEGRADATIONS[way](square, rng)), rng))

    def _image(self, path: str) -> Image.Image:
        return decode((self._folder / path).read_bytes(), SIDES[1], MAX_PIXELS).image

    def _served(self, data: bytes) -> np.ndarray:
        recipe = self._photos.recipe
        return prepare(decode(data, recipe.working_side, MAX_PIXELS).image, recipe)

    def _outputs(self, view: Callable[[Item], np.ndarray], items: Iterable[Item]) -> Outputs:
        def run(item: Item) -> dict[str, np.ndarray]:
            with self._runtime.session() as infer:
                given = infer(scale(view(item), self._photos.recipe))
            return {name: array for name, array in given.items() if name != "feature_map"}

        with ThreadPoolExecutor(self._cores) as executor:
            outputs = list(executor.map(run, items))
        return {name: np.stack([output[name] for output in outputs]) for name in outputs[0]}


def _with_seeds(paths: pd.Series, seed: int) -> Iterable[tuple[str, np.random.Generator]]:
    """Each path with random numbers of its own, the same in every run."""
    return [(path, np.random.default_rng((seed, place))) for place, path in enumerate(paths)]
