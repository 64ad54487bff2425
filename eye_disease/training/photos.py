"""Labelled photos, decoded once and prepared as serving prepares them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from model_code.decode import decode
from model_code.errors import ImageError
from model_code.preprocessing import Recipe, disc_square, field_of_view

MAX_PIXELS = 100_000_000


@dataclass(frozen=True)
class Photos:
    """The photos of a data set."""

    rows: pd.DataFrame
    """path, label, source, group, split; the index is the photo's place in `squares`."""
    squares: np.ndarray
    """uint8 (N, S, S, 3): `preprocessing.disc_square` of each photo, in a file."""
    classes: tuple[str, ...]
    recipe: Recipe
    more: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["path", "label", "source", "group", "split"]))
    """The same of photos that are not of exactly one class; see training.targets for their labels."""

    def of(self, split: str) -> "Photos":
        """Those of one split."""
        rows, more = (table[table["split"] == split] for table in (self.rows, self.more))
        return Photos(rows, self.squares, self.classes, self.recipe, more)

    @property
    def all_rows(self) -> pd.DataFrame:
        """`rows`, then `more`."""
        return pd.concat([self.rows, self.more]) if len(self.more) else self.rows

    @property
    def views(self) -> np.ndarray:
        """uint8 (n, S, S, 3): what `preprocessing.prepare` makes of the photos of one class."""
        return self.views_of(self.rows)

    def views_of(self, rows: pd.DataFrame) -> np.ndarray:
        """uint8 (n, S, S, 3): what `preprocessing.prepare` makes of some of the photos, given by their rows."""
        return view_of(self.squares[rows.index.to_numpy()], self.recipe)

    @property
    def labels(self) -> np.ndarray:
        """int (n,): index into the classes."""
        return self.rows["label"].map(self.classes.index).to_numpy()

    @property
    def sources(self) -> np.ndarray:
        """str (n,)"""
        return self.rows["source"].to_numpy(str)


def view_of(squares: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Disc squares -> the views that serving sees, both uint8 (..., S, S, 3)."""
    return np.asarray(squares * field_of_view(recipe.input_size)[..., None])


def load_squares(
    folder: Path, rows: pd.DataFrame, recipe: Recipe, cache: Path, progress: Callable[[int, int], None]
) -> tuple[np.ndarray, dict[str, str]]:
    """The disc squares of `rows`, below `folder`, as a file at `cache`; and path -> problem of those that cannot be read.

    progress: called with (photos done, photos in all).
    """
    shape = (len(rows), recipe.input_size, recipe.input_size, 3)
    squares = np.lib.format.open_memmap(cache, mode="w+", dtype=np.uint8, shape=shape)

    def read(item: tuple[int, str]) -> tuple[str, str]:
        position, path = item
        try:
            data = (folder / path).read_bytes()
            squares[position] = np.asarray(disc_square(decode(data, recipe.working_side, MAX_PIXELS).image, recipe))
        except (ImageError, OSError) as error:
            return path, str(error)
        return path, ""

    problems = {}
    with ThreadPoolExecutor() as executor:
        for done, (path, problem) in enumerate(executor.map(read, enumerate(rows["path"])), start=1):
            progress(done, len(rows))
            if problem:
                problems[path] = problem
    squares.flush()
    return squares, problems
