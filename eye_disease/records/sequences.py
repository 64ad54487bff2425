"""Which records of each process are held: a record enters once, and what is missing is known."""

from collections.abc import Mapping, Sequence

import numpy as np

_NOTHING = np.empty((0, 2), np.int64)


class Sequences:
    """For every process the ranges of `sequence` that are held, which a process counts up from 0.

    Ranges and not the last number alone: after a jump of its clock a process goes on in an older file.
    """

    def __init__(self, ranges: Mapping[str, Sequence[Sequence[int]]] | None = None) -> None:
        self._ranges = {process: np.array(pairs, np.int64).reshape(-1, 2) for process, pairs in (ranges or {}).items()}

    def admit(self, process_id: str, sequence: np.ndarray) -> np.ndarray:
        """Take in records with these numbers, int (n,); returns bool (n,): True for those not held before."""
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
