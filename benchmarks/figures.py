"""Measured numbers -> ratios, verdicts and tables."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.load import Sample

Setting = tuple[str, int]
"""Photo size and number of clients."""


@dataclass
class Figures:
    """All that one run has measured."""

    rounds: dict[tuple[str, Setting], list[Sample]] = field(default_factory=dict)
    """(peer, setting) -> a sample a round."""
    start_seconds: dict[str, list[float]] = field(default_factory=dict)
    """Server -> seconds to the first /ping, a number a start."""
    resident_mib: dict[str, float] = field(default_factory=dict)
    tensorflow_files: dict[str, set[str]] = field(default_factory=dict)
    """Server -> TensorFlow's libraries mapped into its worker."""

    bystanders_share: float = 0.0
    """Of the machine's CPU time during the rounds, what other programs used, 0..1."""

    def p50(self, peer: str, setting: Setting) -> float:
        """Median latency over all rounds, ms."""
        return percentile(self.rounds[peer, setting], 50)

    def p50_by_round(self, peer: str, setting: Setting) -> np.ndarray:
        """Median latency of each round, ms."""
        return np.array([percentile([sample], 50) for sample in self.rounds[peer, setting]])


@dataclass(frozen=True)
class Verdict:
    """A figure beside its budget."""

    what: str
    value: float
    limit: float
    at_most: bool
    spread: str = ""
    """Lowest and highest value by round or start."""

    @property
    def kept(self) -> bool:
        """Whether the budget is kept."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def cells(self) -> tuple[str, ...]:
        """A row of the table of budgets."""
        sign = "<=" if self.at_most else ">="
        return self.what, f"{self.value:.2f}x", self.spread, f"{sign} {self.limit:g}x", "pass" if self.kept else "**MISSED**"


def percentile(samples: Iterable[Sample], q: float) -> float:
    """Of all latencies of the samples, ms."""
    return float(np.percentile(np.concatenate([sample.latencies_ms for sample in samples]), q))


def throughput(samples: Sequence[Sample]) -> float:
    """Answers a second over all samples."""
    return sum(len(sample.latencies_ms) for sample in samples) / sum(sample.seconds for sample in samples)


def spread(values: np.ndarray) -> str:
    """`lowest..highest`."""
    return f"{values.min():.2f}..{values.max():.2f}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """A Markdown table, aligned to be read as text too; all but the first columns are numbers."""
    rows = [header, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = (c.ljust(w) if i < text_columns else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        return f"| {' | '.join(cells)} |"

    rule = (("-" * w) if i < text_columns else f"{'-' * (w - 1)}:" for i, w in enumerate(widths))
    return "\n".join([line(header), f"|{'|'.join(f' {dashes} ' for dashes in rule)}|", *map(line, rows[1:])])
