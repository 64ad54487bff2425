"""State of ingest between runs, one a version: the content of its `ingest.json`."""

from dataclasses import dataclass, field

LATER_FIELDS = ("writing", "unexplained")
"""Fields that the files of earlier releases lack."""


@dataclass
class IngestState:
    """What ingest remembers of a version between runs."""

    commit: int = 0
    """The last commit; 0 before any."""
    classes: tuple[str, ...] = ()
    """Of the version's records; empty before the first."""
    offsets: dict[str, int] = field(default_factory=dict)
    """Open segment -> bytes taken in."""
    removing: dict[str, int] = field(default_factory=dict)
    """Closed segment, taken in and about to be removed -> its bytes."""
    sequences: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Process -> ranges of sequence numbers held."""
    records: int = 0
    """Records taken in so far, expired ones included."""
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
