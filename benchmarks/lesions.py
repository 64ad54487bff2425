"""Whether the heatmap's highest point lies on a real lesion: photos with diabetic retinopathy whose lesions somebody has drawn.

    python benchmarks/lesions.py --photos-dir FOLDER [--package models] [--write]

FOLDER holds `lesions/`: photos `<name>.webp` and masks `<name>.png` of the same size, a bit of each pixel for each kind of
lesion. Takes some seconds.
"""

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter
from sklearn.metrics import roc_auc_score

from benchmarks.figures import table
from benchmarks.machine import machine_lines, write_section
from benchmarks.network import Network
from model_code.decode import decode
from model_code.heatmap import class_activation
from model_code.preprocessing import field_of_view, find_disc, prepare

DISEASE = "diabetic_retinopathy"
KINDS = ("microaneurysms", "haemorrhages", "hard exudates", "soft exudates")
"""Of the mask's bits, the lowest first"""
_NOTES = f"""
- The map is that of {DISEASE}, whatever the answer. Its highest point is the middle of its highest place within the field of
  view; it is on a lesion if one lies within half a place of it, up, down, left or right.
- By area: the same for a point anywhere in the field of view. Of another photo: the highest point of another photo's map. A
  map that only knows that lesions lie near the middle is as good on other photos' lesions as on its own.
- p: of as many hits or more by area alone (Poisson binomial, exact).
- Places told apart: AUROC of the map's value, places with a lesion against those without, in each photo; mean.
- The photos are IDRiD's, of which others, and perhaps these, are among the training photos: the masks were not, unless the
  package's card says so.
"""


@dataclass(frozen=True)
class Photo:
    """A photo's map and its lesions, in the network's view of S x S pixels."""

    activation: np.ndarray
    """float32 (h, h); -inf at places whose middle is outside the field of view"""
    lesions: np.ndarray
    """uint8 (S, S): the mask's bits; 0 outside the field of view"""

    @property
    def peak(self) -> tuple[int, int]:
        """Row and column of the highest place."""
        row, column = np.unravel_index(self.activation.argmax(), self.activation.shape)
        return int(row), int(column)

    def near(self, bits: int) -> np.ndarray:
        """bool (S, S): whether a lesion of these kinds lies within half a place."""
        side = len(self.lesions)
        return maximum_filter(self.lesions & bits, size=round(side / len(self.activation))) > 0

    def hit(self, place: tuple[int, int], bits: int) -> bool:
        """Whether a lesion of these kinds lies within half a place of the middle of `place`."""
        side, places = len(self.lesions), len(self.activation)
        row, column = (int((at + 0.5) * side / places) for at in place)
        return bool(self.near(bits)[row, column])

    def by_area(self, bits: int) -> float:
        """The chance that a point anywhere in the field of view is a hit."""
        return float(self.near(bits)[field_of_view(len(self.lesions)) > 0].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos-dir", type=Path, required=True, help="folder with lesions/")
    parser.add_argument("--package", type=Path, default=Path("models"), help="model package whose heatmaps are looked at")
    parser.add_argument("--write", action="store_true", help="replace the section `Lesions` of benchmarks/RESULTS.md")
    asked = parser.parse_args()
    network = Network(asked.package)
    photos = read(network, asked.photos_dir / "lesions")
    size = len(photos[0].activation)
    command = "python benchmarks/lesions.py --photos-dir FOLDER" + " --write" * asked.write
    head = machine_lines(("ai-edge-litert", "numpy", "scipy", "pillow"))
    head += [f"- {len(photos)} photos, maps of {size} x {size} places", f"- Command: `{command}`"]
    text = "\n\n".join(["\n".join(head), hits_table(photos), f"Places told apart: {told_apart(photos):.3f}.", _NOTES.strip()])
    print(text)
    if asked.write:
        write_section("Lesions", text)


def read(network: Network, folder: Path) -> list[Photo]:
    """Every photo of the folder that has a mask with a lesion in the field of view."""
    weights = network.class_weights[:, network.facts.classes.index(DISEASE)]
    found = []
    for path in sorted(folder.glob("*.webp")):
        image = decode(path.read_bytes(), network.facts.recipe.working_side, 10**8).image
        with Image.open(path.with_suffix(".png")) as mask:
            lesions = in_view(np.asarray(mask), image, network.facts.recipe.input_size)
        if lesions.any():
            activation = class_activation(network(prepare(image, network.facts.recipe))["feature_map"], weights)
            found.append(Photo(_within_view(activation), lesions))
    return found


def in_view(mask: np.ndarray, photo: Image.Image, side: int) -> np.ndarray:
    """A mask of the photo's shape -> (side, side): its lit pixels moved to where `preprocessing.prepare` puts the photo's."""
    left, top, right, bottom = find_disc(photo)
    shrink = side / max(right - left, bottom - top)
    margins = [(side - round(length * shrink)) // 2 for length in (right - left, bottom - top)]
    rows, columns = np.nonzero(mask)
    x = (columns + 0.5) * photo.width / mask.shape[1]
    y = (rows + 0.5) * photo.height / mask.shape[0]
    x, y = ((x - left) * shrink + margins[0]).astype(int), ((y - top) * shrink + margins[1]).astype(int)
    inside = (x >= 0) & (x < side) & (y >= 0) & (y < side)
    moved = np.zeros((side, side), np.uint8)
    np.bitwise_or.at(moved, (y[inside], x[inside]), mask[rows[inside], columns[inside]])
    return moved * field_of_view(side)


def hits_table(photos: list[Photo]) -> str:
    """By kind of lesion, of the photos that have it."""
    lines = []
    for name, bits in {"any": 15, **{name: 1 << place for place, name in enumerate(KINDS)}}.items():
        having = [photo for photo in photos if (photo.lesions & bits).any()]
        if not having:
            continue
        hits = [photo.hit(photo.peak, bits) for photo in having]
        others = [photo.hit(other.peak, bits) for photo in having for other in photos if other is not photo]
        chances = [photo.by_area(bits) for photo in having]
        p_value = at_least(sum(hits), chances)
        lines.append((name, str(len(having)), *(f"{np.mean(one):.3f}" for one in (hits, chances, others)), f"{p_value:.2g}"))
    return table(("lesions", "photos", "highest point on one", "by area", "of another photo", "p"), lines)


def at_least(hits: int, chances: list[float]) -> float:
    """The probability of `hits` or more where the i-th try succeeds with chances[i]."""
    counts = np.ones(1)
    for chance in chances:
        counts = np.convolve(counts, [1 - chance, chance])
    return float(min(counts[hits:].sum(), 1.0))


def told_apart(photos: list[Photo]) -> float:
    """Mean over the photos of the AUROC of the map's value at places with a lesion against places without."""
    found = []
    for photo in photos:
        side, places = len(photo.lesions), len(photo.activation)
        edges = np.linspace(0, side, places + 1).astype(int)[:-1]
        lit = np.logical_or.reduceat(np.logical_or.reduceat(photo.lesions > 0, edges, axis=0), edges, axis=1)
        within = np.isfinite(photo.activation)
        if 0 < lit[within].sum() < within.sum():
            found.append(roc_auc_score(lit[within], photo.activation[within]))
    return float(np.mean(found))


def _within_view(activation: np.ndarray) -> np.ndarray:
    places = len(activation)
    middle = field_of_view(places * 9)[4::9, 4::9]
    return np.where(middle > 0, activation, -np.inf)


if __name__ == "__main__":
    main()
