"""What ingest remembers of a version between runs, in its `ingest.json`: how far it is, and which records it holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

LATER_FIELDS = ("writing", "unexplained")
"""Fields that the files of earlier releases lack."""
_NOTHING = np.empty((0, 2), np.int64)


@dataclass
class IngestState:
    """What ingest remembers of a version between runs."""

    commit: int = 0
    """The last commit; 0 before any."""
    classes: tuple[str, ...] = ()
    """Of the version's records; empty before the first."""
    offsets: dict[str, int] = field(default_factory=dict)
    """Open segment -> bytes ingested."""
    removing: dict[str, int] = field(default_factory=dict)
    """Closed segment, ingested and about to be removed -> its bytes."""
    sequences: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Process -> ranges of sequence numbers held."""
    records: int = 0
    """Records ingested so far, expired ones included."""
    missing: int = 0
    """Numbered by a process and not held."""
    lost_records: int = 0
    """Losses that the served model has told of itself (`lost_records`); among `missing`."""
    clock_jumps: int = 0
    """Records older than the one before them, not of their segment's hour, or not of the time at which they were written."""
    duplicates: int = 0
    """Records that were held already."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Reason -> lines set aside."""
    writing: int = 0
    """The commit whose files a run is writing: if it was killed, the next one removes them. 0: none."""
    unexplained: int = 0
    """Gaps in the sequences as this state was rebuilt: expired, or lost; not among `missing`."""


class Sequences:
    """For every process the ranges of `sequence` that are held, which a process counts up from 0.

    Ranges and not the last number alone: after a jump of its clock a process continues in an older file.
    """

    def __init__(self, ranges: Mapping[str, Sequence[Sequence[int]]] | None = None) -> None:
        self._ranges = {process: np.array(pairs, np.int64).reshape(-1, 2) for process, pairs in (ranges or {}).items()}

    def admit(self, process_id: str, sequence: np.ndarray) -> np.ndarray:
        """Admit records with these numbers, int (n,); returns bool (n,): True for those not held before."""
        ranges = self._ranges.get(process_id, _NOTHING)
        at = np.searchsorted(ranges[:, 0], sequence, side="right") - 1
        known = (at >= 0) & (sequence <= ranges[at, 1]) if len(ranges) else np.zeros(len(sequence), bool)
        first = np.zeros(len(sequence), bool)
        first[np.unique(sequence, return_index=True)[1]] = True
        new: np.ndarray = first & ~known
        if new.any():
            numbers = np.sort(sequence[new])
            self._ranges[process_id] = _join(np.concatenate([ranges, np.stack([numbers, numbers], axis=1)]))
        return new

    def missing(self) -> int:
        """Records that processes have numbered and that are not held: lost, or not here yet."""
        return sum(int(ranges[-1, 1] + 1 - (ranges[:, 1] - ranges[:, 0] + 1).sum()) for ranges in self._ranges.values())

    def as_json(self) -> dict[str, list[tuple[int, int]]]:
        """What the constructor takes."""
        return {process: [(int(first), int(last)) for first, last in ranges] for process, ranges in self._ranges.items()}


def _join(ranges: np.ndarray) -> np.ndarray:
    """Disjoint ranges, int (n, 2), first and last number -> the same numbers in as few ranges as possible, sorted."""
    ranges = ranges[ranges[:, 0].argsort()]
    starts = np.concatenate([[True], ranges[1:, 0] != ranges[:-1, 1] + 1])
    ends = np.concatenate([starts[1:], [True]])
    return np.stack([ranges[starts, 0], ranges[ends, 1]], axis=1)
