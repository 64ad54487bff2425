"""The report of `drift_power.py`: false alarms, detections, and how the windows were drawn."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import binomtest

from benchmarks.drift_detectors import OURS, PEERS, Finding
from benchmarks.drift_windows import Window
from benchmarks.figures import table
from benchmarks.machine import machine_lines

BUDGET = 0.01
NO_DRIFT = "no drift"
DRIFT = "drift"
"""The world of windows with drift, and of those without beside them"""
DETECTORS = (OURS, *(name for peer in PEERS for name in peer.detectors))
_PACKAGES = ("numpy", "scipy", "pyarrow", "pandas", "ai-edge-litert")
_NOTES = """
- ours: profile, reference and verdict of this project with their default limits; "drift" is a window whose status is `drift`,
  whatever the source. This is one window: an alarm takes two in a row.
- Evidently: `DataDriftPreset`, defaults; "dataset drift" when half of the columns drift. Alibi Detect: `TabularDrift` and
  `ClassifierDrift` (embedding, logistic regression), defaults. All see the same records: probabilities, confidence, image
  statistics, out-of-distribution score, 16 embedding components, predicted class. The slower a peer, the fewer windows it
  judges: the first ones of each case.
- population: reference and windows are drawn with replacement from the same answers, which thereby are the population; no drift
  is exactly that at any size, but a photo can come twice, and a population of so few photos is simpler than a clinic's.
- held out: reference and window are different photos, none twice in a window; sizes beyond the photos at hand are left out.
  The windows of one reference share photos, so their false alarms come in groups.
- Without drift, photos of both splits are used (the network has learned from some of them, on both sides alike); degraded
  ones are of the validation split. Both eyes of a patient count as two photos; in a clinic they come together, and windows
  vary more.
- At equal false alarms: each peer's threshold is the score that it exceeds in as large a share of the windows without drift as
  ours finds, of the same size and against the same references. Where ours finds none, it is the peer's largest score: of few
  windows that is a lower threshold than ours has.
- Drift that lasts: merged windows alone, 64 windows without drift before it begins, a reference of its own in each trial. With
  the true classes known: power of the best test of that class's share, after ten windows, at the level of one size.
- The interval is the exact one for 95 % (Clopper-Pearson), for ours.
"""


@dataclass
class Tally:
    """Windows judged, drift found and kind named rightly, by detector."""

    judged: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    scores: dict[str, list[float]] = field(default_factory=dict)
    named: int = 0
    """By ours, among those found"""

    def add(self, detector: str, finding: Finding, expected_kind: str | None) -> None:
        """Count a finding."""
        self.judged[detector] = self.judged.get(detector, 0) + 1
        self.found[detector] = self.found.get(detector, 0) + finding.drift
        self.scores.setdefault(detector, []).append(finding.score)
        self.named += detector == OURS and finding.drift and finding.kind == expected_kind

    def cell(self, detector: str) -> str:
        """Share with its counts."""
        judged = self.judged.get(detector, 0)
        return f"{self.found[detector] / judged:.1%} ({self.found[detector]}/{judged})" if judged else ""

    def interval(self) -> str:
        """Of the share of ours."""
        low, high = binomtest(self.found[OURS], self.judged[OURS]).proportion_ci(0.95)
        return f"{low:.1%}..{high:.1%}"


Counts = dict[tuple[str, str, int], Tally]
"""(how the windows were drawn, case, n) -> tally"""


def count(counts: Counts, world: str, detector: str, windows: Iterable[Window], findings: Iterable[Finding]) -> None:
    """Add findings of one detector to the counts."""
    for window, finding in zip(windows, findings, strict=True):
        tally = counts.setdefault((world, window.case, len(window.records)), Tally())
        tally.add(detector, finding, window.expected_kind)


def report(counts: Counts, references: dict[str, str], lasting: str, command: str) -> str:
    """The section as Markdown. references: world -> the references' size and number, in words. lasting: a table."""
    detectors = [name for name in DETECTORS if any(name in tally.judged for tally in counts.values())]
    head = [*machine_lines(_PACKAGES), f"- Command: `{command}`", *(f"- {world}: {text}" for world, text in references.items())]
    parts = [
        "\n".join(head),
        "### False alarms\n\n" + _false_alarms(counts, detectors),
        "### Detections\n\n" + _detections(counts, detectors),
        "### Detections at equal false alarms\n\n" + _equalled(counts, [name for name in detectors if name != OURS]),
        "### Drift that lasts\n\n" + lasting,
        "### How to read this\n" + _NOTES,
    ]
    return "\n\n".join(part.strip() for part in parts)


def _false_alarms(counts: Counts, detectors: Sequence[str]) -> str:
    rows = []
    for (world, case, n), tally in counts.items():
        if case == NO_DRIFT:
            kept = tally.found[OURS] <= BUDGET * tally.judged[OURS]
            verdict = "pass" if kept else "**MISSED**"
            rows.append((world, str(n), *(tally.cell(name) for name in detectors), tally.interval(), verdict))
    return table(("windows", "n", *detectors, "interval", f"<= {BUDGET:.0%}"), rows)


def _detections(counts: Counts, detectors: Sequence[str]) -> str:
    rows = []
    for (_, case, n), tally in counts.items():
        if case != NO_DRIFT:
            named = f"{tally.named}/{tally.found[OURS]}"
            rows.append((case, str(n), *(tally.cell(name) for name in detectors), named))
    return table(("drift", "n", *detectors, "kind named rightly"), rows)


def _equalled(counts: Counts, peers: Sequence[str]) -> str:
    """Each peer with the threshold that gives it as many false alarms as ours has, on windows of that size without drift."""
    rows = []
    for (world, case, n), tally in counts.items():
        quiet = counts.get((world, NO_DRIFT, n))
        if world != DRIFT or case == NO_DRIFT or quiet is None:
            continue
        ours = tally.found[OURS] / tally.judged[OURS]
        tuned = {name: _tuned(tally.scores.get(name, []), quiet.scores.get(name, []), quiet) for name in peers}
        ahead = [name for name, share in tuned.items() if share is not None and share > ours]
        shown = ["" if share is None else f"{share:.0%}" for share in tuned.values()]
        rows.append((case, str(n), f"{ours:.0%}", *shown, ", ".join(ahead) or "-"))
    return table(("drift", "n", OURS, *peers, "ahead of ours"), rows)


def _tuned(scores: list[float], quiet: list[float], ours: Tally) -> float | None:
    """Share of the scores beyond the threshold; None without any."""
    if not scores or not quiet:
        return None
    allowed = int(ours.found[OURS] / ours.judged[OURS] * len(quiet))
    return float(np.mean(np.array(scores) > sorted(quiet, reverse=True)[allowed]))
