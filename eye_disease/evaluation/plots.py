"""Pictures of a classifier's figures."""

import warnings
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from sklearn.metrics import auc, roc_curve

from eye_disease.common.text import clean
from eye_disease.evaluation.figures import Figures
from eye_disease.evaluation.shares import reliability
from eye_disease.evaluation.within_source import POOLED, WithinSource

matplotlib.use("Agg")
_LONGEST_NAME = 40


def plot_confusion(figures: Figures, classes: tuple[str, ...], path: Path) -> None:
    """Counts of answers by label, shaded by the share of the label."""
    counts = np.array(figures.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = _figure()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        axes.text(column, row, str(count), ha="center", va="center", color="white" if shares[row, column] > 0.5 else "black")
    names = [clean(name, _LONGEST_NAME) for name in classes]  # without what would be read as a formula
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="answer", ylabel="label", title=f"accuracy {figures.accuracy.value:.3f} on {figures.accuracy.n} photos")
    _save(figure, path)


def plot_reliability(probabilities: np.ndarray, labels: np.ndarray, path: Path) -> None:
    """Accuracy against confidence, (N, C) and int (N,); points as large as their share of the photos."""
    sure, right, photos = np.array(reliability(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)).T
    figure, axes = _figure()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
    axes.scatter(sure, right, s=20 + 600 * photos / photos.sum())
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(-0.02, 1.05), title="Reliability")
    _save(figure, path)


def plot_roc(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], path: Path) -> None:
    """Each class against the rest, (N, C) and int (N,); classes without photos are left out."""
    figure, axes = _figure()
    for i, name in enumerate(classes):
        if 0 < (labels == i).sum() < len(labels):
            false, true, _ = roc_curve(labels == i, probabilities[:, i])
            axes.plot(false, true, label=f"{clean(name, _LONGEST_NAME)} {auc(false, true):.3f}")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title="One class against the rest, with AUROC")
    axes.legend()
    _save(figure, path)


def plot_separations(within: WithinSource, path: Path) -> None:
    """AUROC of each disease against healthy, pooled (grey) and within each source, with 95 % intervals."""
    separations = within.separations
    figure = Figure(figsize=(8, 1.2 + 0.3 * len(separations)), dpi=110, layout="constrained")
    axes = figure.subplots()
    for row, separation in enumerate(separations):
        auroc, colour = separation.auroc, "grey" if separation.source == POOLED else "tab:blue"
        # At 0 or 1 an interval that is made on another scale may end a rounding error before its middle.
        reach = [[max(auroc.value - auroc.low, 0.0)], [max(auroc.high - auroc.value, 0.0)]]
        axes.errorbar(auroc.value, row, xerr=reach, fmt="o", color=colour, capsize=3)
    axes.axvline(0.5, color="tab:red", linewidth=1)
    axes.set_yticks(range(len(separations)), [f"{separation.name}, {separation.source}" for separation in separations])
    axes.set(xlim=(0, 1.02), ylim=(len(separations) - 0.5, -0.5), xlabel="AUROC against healthy; 0.5 is chance")
    figure.savefig(path)


def plot_curves(curves: dict[str, list[float]], path: Path) -> None:
    """One line a name over the epochs."""
    figure, axes = _figure()
    for name, values in curves.items():
        axes.plot(range(1, len(values) + 1), values, label=name)
    axes.set(xlabel="epoch")
    axes.legend()
    _save(figure, path)


def contact_sheet(views: np.ndarray, captions: list[str], path: Path, columns: int = 6) -> None:
    """Photos, uint8 (N, S, S, 3) RGB, in rows with a line of text below each."""
    side = views.shape[1] if len(views) else 0
    rows = -(-len(views) // columns)
    sheet = Image.new("RGB", (max(1, columns * side), max(1, rows * (side + 28))), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (view, caption) in enumerate(zip(views, captions, strict=True)):
        left, top = i % columns * side, i // columns * (side + 28)
        sheet.paste(Image.fromarray(view), (left, top))
        pen.multiline_text((left + 4, top + side + 1), caption, fill="black", spacing=1)
    sheet.save(path)


def _figure() -> tuple[Figure, matplotlib.axes.Axes]:
    figure = Figure(figsize=(6, 5), dpi=110, layout="constrained")
    return figure, figure.subplots()


def _save(figure: Figure, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a class's name in a script that the font lacks
        figure.savefig(path)
