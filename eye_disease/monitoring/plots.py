"""Plots of a judged window beside its reference, drawn once and written as SVG and PNG."""

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator, PercentFormatter

from eye_disease.common.text import clean
from eye_disease.monitoring.judged_window import Findings
from eye_disease.monitoring.version_state import MERGED
from eye_disease.profiles.estimate import estimate_performance
from eye_disease.profiles.layout import LATENCY_EDGES

_WINDOW, _REFERENCE, _BAD = "#0b6e99", "#9a9a9a", "#b3261e"
_QUALITY = ("brightness", "contrast", "sharpness", "field_of_view_share")
_SHOWN_STREAMS, _SHOWN_SITES, _LONGEST_NAME = 6, 10, 32
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


class Plot:
    """A figure that can be written out."""

    def __init__(self, name: str, title: str, draw: Callable[[Figure], None], height: float = 3.2) -> None:
        """height: inches; the width is 6, which a phone shows at two thirds."""
        self.name, self.title = name, title
        with _styled():
            self._figure = Figure(figsize=(6, height), layout="constrained")
            draw(self._figure)

    def svg(self) -> str:
        """An element to put into a page; as wide as the page allows."""
        with _styled():
            buffer = io.StringIO()
            self._figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        element = buffer.getvalue()[buffer.getvalue().index("<svg") :]
        element = re.sub(
            r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg \1 role="img" aria-label="{self.title}">', element, count=1
        )
        return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{self.name}-", element)  # one page, one name for each thing

    def png(self) -> bytes:
        """720 pixels wide."""
        with _styled():
            buffer = io.BytesIO()
            self._figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
        return buffer.getvalue()


def make_plots(findings: Findings) -> list[Plot]:
    """In the order of the report."""
    quality = [name for name in _QUALITY if name in findings.profile.layout.edges]
    sites = _worst_sites(findings)
    plots = [
        Plot("class_mix", "Class mix", lambda figure: _class_mix(figure, findings)),
        Plot("confidence", "Confidence", lambda figure: _distributions(figure, findings, ["confidence"])),
        Plot("calibration", "Accuracy: promised, estimated, realised", lambda figure: _accuracy(figure, findings), 2.4),
        Plot("latency", "Inference time", lambda figure: _latency(figure, findings)),
        Plot("image_quality", "Image quality", lambda figure: _distributions(figure, findings, quality), 5.0),
        Plot("drift", "Drift statistics over time, as a share of their limits", lambda figure: _history(figure, findings), 3.6),
    ]
    if sites:
        height = 1.2 + 0.3 * len(sites)
        plots.append(Plot("sites", "Worst sites", lambda figure: _sites(figure, sites), height))
    return plots


def _class_mix(figure: Figure, findings: Findings) -> None:
    axes = figure.subplots()
    classes = findings.profile.layout.classes
    places = np.arange(len(classes))
    sides = [(findings.profile.whole.classes, _WINDOW, "this window", -0.2)]
    if findings.reference:
        sides.append((findings.reference.profile.whole.classes, _REFERENCE, "reference", 0.2))
    for counts, colour, label, offset in sides:
        axes.barh(places + offset, counts / max(counts.sum(), 1), 0.4, color=colour, label=label)
    axes.set_yticks(places, [_plain(name.replace("_", " ")) for name in classes])
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("share of answers")
    _legend(figure)


def _distributions(figure: Figure, findings: Findings, streams: list[str]) -> None:
    """Share of photos up to each value: the KS distance is the largest gap between the two lines."""
    columns = min(len(streams), 2)
    grid = figure.subplots(-(-len(streams) // columns), columns, squeeze=False).flat
    for axes, stream in zip(grid, streams, strict=True):
        edges = findings.profile.layout.arrays[stream]
        sides = [(findings.profile, _WINDOW, "this window")]
        if findings.reference:
            sides.insert(0, (findings.reference.profile, _REFERENCE, "reference"))
        for profile, colour, label in sides:
            counts = profile.counts(profile.whole)[stream]
            axes.step(edges, counts.cumsum()[:-1] / max(counts.sum(), 1), where="post", color=colour, label=label)
        axes.set(xlabel=stream.replace("_", " "), ylim=(0, 1.02))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.supylabel("photos up to this value", fontsize=11)
    _legend(figure)


def _accuracy(figure: Figure, findings: Findings) -> None:
    rows: list[tuple[str, float, float, float, str]] = []
    reference = findings.reference and estimate_performance(findings.reference.profile)
    estimate, realised = findings.verdict.estimate, findings.realised
    for label, performance, colour in (
        ("reference, estimated", reference, _REFERENCE),
        ("this window, estimated", estimate, _WINDOW),
    ):
        if performance:
            rows.append((label, performance.accuracy, performance.low, performance.high, colour))
    if realised and realised.accuracy:
        share = realised.accuracy
        rows.append((f"realised, {share.n} labels", share.value, share.low, share.high, _BAD))
        if (wrong := realised.error_among_reported) is not None:
            promised = f", promised {1 - findings.promise.max_error:.0%}" if findings.promise else ""
            rows.append((f"reported, {wrong.n} labels{promised}", 1 - wrong.value, 1 - wrong.high, 1 - wrong.low, _BAD))
        rows += [
            (f"recall of {_plain(name)}", recall.value, recall.low, recall.high, _BAD)
            for name, recall in realised.recall.items()
        ]
    axes = figure.subplots()
    if not rows:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no answers", ha="center", transform=axes.transAxes)
        return
    for row, (_, value, low, high, colour) in enumerate(rows):
        axes.errorbar(value, row, xerr=[[max(value - low, 0)], [max(high - value, 0)]], fmt="o", color=colour, capsize=4)
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.set(xlim=(0, 1.02), ylim=(len(rows) - 0.5, -0.5), xlabel="share right, with 95 % interval")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))


def _latency(figure: Figure, findings: Findings) -> None:
    axes, whole = figure.subplots(), findings.profile.whole
    counts = whole.latency[1:-1]
    axes.bar(LATENCY_EDGES[:-1], counts, np.diff(LATENCY_EDGES), align="edge", color=_WINDOW)
    for q in (0.5, 0.95, 0.99):
        if (value := whole.latency_quantile(q)) is not None:
            axes.axvline(value, color=_BAD, linewidth=1)
            axes.annotate(f" p{q * 100:.0f}", (value, 1), xycoords=("data", "axes fraction"), va="top", color=_BAD)
    used = np.flatnonzero(counts)
    if len(used):
        axes.set_xlim(LATENCY_EDGES[used[0]] / 1.5, LATENCY_EDGES[used[-1] + 1] * 1.5)
    axes.set_xscale("log")
    for axis_formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.set(xlabel="milliseconds", ylabel="photos")


def _history(figure: Figure, findings: Findings) -> None:
    axes = figure.subplots()
    ratios = {
        name: value / limit for name, (value, limit) in findings.history[-1].figures.items() if limit and not _is_accuracy(name)
    }
    worst = sorted(ratios, key=lambda name: (name != MERGED, -ratios[name]))[:_SHOWN_STREAMS]
    for name in worst:
        points = [(past.number, *past.figures[name]) for past in findings.history if name in past.figures]
        axes.plot(
            [n for n, _, _ in points],
            [v / limit if limit else 0 for _, v, limit in points],
            marker="o",
            markersize=3,
            label=name,
        )
    _limit_line(axes.axhline)
    numbers = [past.number for past in findings.history]
    if since := findings.verdict.since:
        begun, first, last = (max(n, min(numbers)) - 0.5 for n in (since.number, since.first_number, since.last_number))
        axes.axvspan(begun, max(numbers) + 0.5, color=_BAD, alpha=0.08, linewidth=0, label=since.about)
        axes.axvspan(first, last + 1, color=_BAD, alpha=0.12, linewidth=0)
    axes.set(xlabel="window", ylabel="times its limit", ylim=(0, None), xlim=(min(numbers) - 0.5, max(numbers) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure)


def _sites(figure: Figure, sites: list[tuple[str, float]]) -> None:
    axes: Axes = figure.subplots()
    names, ratios = zip(*sites, strict=True)
    axes.barh(range(len(sites)), ratios, color=[_BAD if ratio > 1 else _WINDOW for ratio in ratios])
    axes.set_yticks(range(len(sites)), names)
    axes.invert_yaxis()
    _limit_line(axes.axvline)
    axes.set_xlabel("times its limit")


def _worst_sites(findings: Findings) -> list[tuple[str, float]]:
    """Each site with its worst stream and how many times its limit that is, the worst first."""
    worst: dict[str, tuple[str, float]] = {}
    for check in findings.verdict.checks:
        if check.site is not None and check.limit:
            ratio, before = check.value / check.limit, worst.get(check.site)
            if before is None or ratio > before[1]:
                worst[check.site] = (f"{_plain(check.site or '(none)')}: {check.stream}", ratio)
    return sorted(worst.values(), key=lambda site: -site[1])[:_SHOWN_SITES]


def _plain(text: str) -> str:
    """A name that others have chosen: short, and no formula."""
    return clean(text, _LONGEST_NAME)


@contextmanager
def _styled() -> Iterator[None]:
    with rc_context(_STYLE), warnings.catch_warnings():
        # A site's name in another script: the page shows it, the PNG cannot.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def _legend(figure: Figure) -> None:
    """Below the axes, where it hides nothing; each name once."""
    named = {label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if named:
        figure.legend(named.values(), named, loc="outside lower center", ncols=2, frameon=False, fontsize=9)


def _is_accuracy(name: str) -> bool:
    """Bad below its limit and not above it: not for this plot."""
    return name.startswith("accuracy ")


def _limit_line(line: Callable[..., object]) -> None:
    line(1, color=_BAD, linestyle="--", linewidth=1)
