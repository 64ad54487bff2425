"""Since when a drift lasts: the split of the kept windows that explains it best, and the splits that explain it as well."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Self

import numpy as np

SURE = 2 * -np.log(1 - np.sqrt(0.95))
"""Twice the log likelihood ratio between two splits that settles it, at 95 %.

Seen from the true split, the ratio of every other one is a Brownian motion with drift -1/2 on either side, whose largest
value is that of two exponential variables: (1 - exp(-x))^2 = 0.95 (Siegmund, Confidence sets in change-point problems, 1988).
"""
_BY_THE_DAY = timedelta(days=2)
Split = tuple[int, int, int]
"""Indices of windows: the first one with the drift, the earliest and the latest that may be it at 95 %"""


@dataclass(frozen=True)
class Since:
    """When an ongoing drift began."""

    number: int
    """Of the first window that has it"""
    start: datetime
    """Of that window's first record"""
    first_number: int
    last_number: int
    """Numbers of the windows it may have begun with, at 95 %"""
    earliest: datetime
    latest: datetime
    """Starts of these two"""
    open: bool = False
    """It may have begun before `earliest`, the oldest window that is known"""

    def carried(self, before: Self | None) -> Self:
        """What was said of the same drift while its beginning was among the kept windows, where it is not any more."""
        return before if self.open and before is not None and before.number <= self.number else self

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self) | {name: getattr(self, name).isoformat() for name in ("start", "earliest", "latest")}

    def __str__(self) -> str:
        """`since about 14 November 2026 (12 to 15 November 2026)`; with the hour where the days do not tell enough."""
        earliest, latest = self._shown(self.earliest), self._shown(self.latest)
        return self.about if self.open or earliest == latest else f"{self.about} ({earliest} to {latest})"

    @property
    def about(self) -> str:
        """Without the interval."""
        return f"since about {self._shown(self.start)}{' or before' if self.open else ''}"

    def _shown(self, moment: datetime) -> str:
        day = f"{moment.day} {moment:%B %Y}"
        return day if self.latest - self.earliest >= _BY_THE_DAY else f"{day}, {moment:%H:%M} UTC"


@dataclass(frozen=True)
class Series:
    """One score of the records, by window: what changed, as a mean."""

    sums: np.ndarray
    """float (L,): oldest window first"""
    n: np.ndarray
    """float (L,): records with a score"""
    base_sum: float
    base_n: float
    """Of the reference, which belongs to what was before"""
    variance: float
    """Of one record's score"""
    sign: float
    """1 if the drift has made it larger, -1 if smaller"""


def split(series: Series) -> Split | None:
    """Which windows the drift begins with; None if the newest ones have it no longer.

    Gaussian likelihood ratio of a segment against the reference and all other windows. The drift is over if a segment that has
    ended explains the windows clearly better than any ongoing one.
    """
    explained = _explained(series)
    ongoing = explained[:, -1]
    best = int(ongoing.argmax())
    if explained.max() - ongoing[best] > SURE:
        return None
    possible = np.flatnonzero(ongoing >= ongoing[best] - SURE)
    return best, int(possible[0]), int(possible[-1])


def _explained(series: Series) -> np.ndarray:
    """(L, L): twice the log likelihood ratio of a drift in the windows first..last, 0 where it has the wrong sign."""
    sums, n = np.concatenate([[0.0], series.sums.cumsum()]), np.concatenate([[0.0], series.n.cumsum()])
    inside, inside_n = sums[None, 1:] - sums[:-1, None], n[None, 1:] - n[:-1, None]
    outside, outside_n = series.base_sum + sums[-1] - inside, series.base_n + n[-1] - inside_n
    valid = (inside_n > 0) & (outside_n > 0) & np.tri(len(series.n), dtype=bool).T
    inside_n, outside_n = np.where(valid, inside_n, 1.0), np.where(valid, outside_n, 1.0)
    gap = inside / inside_n - outside / outside_n
    ratio = gap**2 / (series.variance * (1 / inside_n + 1 / outside_n))
    return np.where(valid & (np.sign(gap) == series.sign), ratio, 0.0)
