"""Whether the heatmap points at what the answer comes from: pasted lesions, and deleting what it points at.

    python benchmarks/heatmap.py --photos-dir FOLDER [--package models] [--write]

FOLDER holds fundus photos in `fundus/` and their `manifest.csv`.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.figures import table
from benchmarks.machine import machine_lines, write_section
from benchmarks.network import Network
from model_code.decode import decode
from model_code.heatmap import class_activation
from model_code.preprocessing import prepare

LESIONS = "diabetic_retinopathy"
HEALTHY = "normal"
SPREAD = 0.13
"""Radius of what is pasted, as a share of the side."""
NEAR = 0.22
"""As a share of the side: one and a half places of a 7 x 7 map."""
DELETED = 0.2
Paste = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""A view, uint8 (S, S, 3), the place (x, y) in shares of the side, random numbers -> a view with lesions there"""
_NOTES = f"""
- Pasted into {HEALTHY} validation photos at a random place: a round patch ({SPREAD:.2f} of the side in radius, its
  light and colour matched, its edge soft) of a photo with {LESIONS}, from where that photo's own map is highest; or,
  drawn there, 14 small dark red and bright yellow spots. The map of {LESIONS} with the patch, less the map without,
  must be highest near it (within {NEAR:.2f} of the side).
- Deleted: in validation photos answered rightly, a fifth of the field of view (where the map of the answer is highest, at
  random, or lowest) is replaced by its own strong blur; how far the answer's probability falls.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos-dir", type=Path, required=True, help="folder with manifest.csv and fundus/")
    parser.add_argument("--package", type=Path, default=Path("models"), help="model package whose heatmaps are looked at")
    parser.add_argument("--write", action="store_true", help="replace the section `Heatmap` of benchmarks/RESULTS.md")
    asked = parser.parse_args()
    network = Network(asked.package)
    rows = pd.read_csv(asked.photos_dir / "manifest.csv")
    rows = rows[rows["split"] == "val"]
    views = [_view(network, asked.photos_dir / "fundus" / path) for path in rows["path"]]
    by_label = {label: [v for v, its in zip(views, rows["label"], strict=True) if its == label] for label in (HEALTHY, LESIONS)}
    lines = [("photos pasted into", str(len(by_label[HEALTHY])))]
    for name, paste in (("patches", patches(network, by_label[LESIONS])), ("drawn spots", drawn_spots)):
        rise, near, chance = pasted(network, by_label[HEALTHY], paste)
        lines += [
            (f"{name}: mean rise of the probability of {LESIONS}", f"{rise.mean():.3f}"),
            (f"{name}: the map rises most near them", f"{near.mean():.3f}"),
            (f"{name}: ... near a place at random", f"{chance.mean():.3f}"),
        ]
    drops = deletions(network, views, rows["label"].tolist())
    lines += [
        ("photos deleted from", str(len(drops))),
        *((f"mean fall of the probability, {name} fifth deleted", f"{drops[name].mean():.3f}") for name in drops),
        ("the highest fifth matters more than one at random", f"{(drops['highest'] > drops['random']).mean():.3f}"),
    ]
    command = "python benchmarks/heatmap.py --photos-dir FOLDER" + " --write" * asked.write
    head = "\n".join([*machine_lines(("ai-edge-litert", "numpy", "pillow")), f"- Command: `{command}`"])
    text = "\n\n".join([head, table(("what", "measured"), lines), _NOTES.strip()])
    print(text)
    if asked.write:
        write_section("Heatmap", text)


def pasted(network: Network, views: list[np.ndarray], paste: Paste) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each view: rise of the probability of LESIONS, whether the map rises most where it was pasted, and elsewhere."""
    rng = np.random.default_rng(0)
    found = []
    for view in views:
        place, other = _place(rng), _place(rng)
        before, after = network(view), network(paste(view, place, rng))
        index = network.facts.classes.index(LESIONS)
        maps = [class_activation(one["feature_map"], network.class_weights[:, index]) for one in (before, after)]
        peak = _peak(maps[1] - maps[0])
        rise = network.probabilities(after)[index] - network.probabilities(before)[index]
        found.append((rise, np.linalg.norm(peak - place) < NEAR, np.linalg.norm(peak - other) < NEAR))
    return tuple(np.array(column) for column in zip(*found, strict=True))


def patches(network: Network, donors: list[np.ndarray]) -> Paste:
    """Pastes from the donor views of LESIONS, each from where its own map is highest."""
    index = network.facts.classes.index(LESIONS)
    sources = [
        (view, _peak(class_activation(network(view)["feature_map"], network.class_weights[:, index])).clip(0.2, 0.8))
        for view in donors
    ]

    def paste(view: np.ndarray, place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        donor, source = sources[rng.integers(len(sources))]
        side = len(view)
        moved = np.roll(donor.astype(np.float32), np.round((place - source) * side).astype(int)[::-1], axis=(0, 1))
        y, x = np.mgrid[:side, :side] / side
        distance = np.hypot(x - place[0], y - place[1])
        near = distance < SPREAD
        moved += view[near].mean(axis=0) - moved[near].mean(axis=0)
        share = np.clip((SPREAD - distance) / (0.3 * SPREAD), 0, 1)[..., None]
        return (view * (1 - share) + moved.clip(0, 255) * share).astype(np.uint8)

    return paste


def drawn_spots(view: np.ndarray, place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws spots like haemorrhages and exudates."""
    side = len(view)
    photo = Image.fromarray(view)
    pen = ImageDraw.Draw(photo)
    for _ in range(14):
        angle, distance = rng.uniform(0, 2 * np.pi), SPREAD * np.sqrt(rng.uniform())
        x, y = (place + distance * np.array([np.cos(angle), np.sin(angle)])) * side
        radius = rng.uniform(0.005, 0.014) * side
        colour = (235, 215, 130) if rng.random() < 0.5 else (95, 20, 15)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return np.asarray(photo.filter(ImageFilter.GaussianBlur(side / 370)))


def _peak(activation: np.ndarray) -> np.ndarray:
    """(x, y) of the highest place, in shares of the side."""
    row, column = np.unravel_index(activation.argmax(), activation.shape)
    return (np.array([column, row]) + 0.5) / len(activation)


def deletions(network: Network, views: list[np.ndarray], labels: list[str]) -> pd.DataFrame:
    """Fall of the probability of each right answer when the `highest`, a `random` or the `lowest` fifth is blurred away."""
    rng = np.random.default_rng(0)
    found = []
    for view, label in zip(views, labels, strict=True):
        outputs = network(view)
        probabilities = network.probabilities(outputs)
        best = int(probabilities.argmax())
        if network.facts.classes[best] != label:
            continue
        activation = class_activation(outputs["feature_map"], network.class_weights[:, best])
        orders = {"highest": -activation, "random": rng.random(activation.shape), "lowest": activation}
        fall = {}
        for name, order in orders.items():
            less = network.probabilities(network(_deleted(view, order)))[best]
            fall[name] = probabilities[best] - less
        found.append(fall)
    return pd.DataFrame(found)


def _deleted(view: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The places of the map that come first in `order` blurred away in the view."""
    side, places = len(view), len(order)
    chosen = order <= np.sort(order.ravel())[round(DELETED * order.size) - 1]
    mask = Image.fromarray((chosen * 255).astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)
    mask = mask.filter(ImageFilter.GaussianBlur(side / places / 8))
    photo = Image.fromarray(view)
    return np.asarray(Image.composite(photo.filter(ImageFilter.GaussianBlur(side / 10)), photo, mask))


def _place(rng: np.random.Generator) -> np.ndarray:
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.32)
    return np.array([0.5 + distance * np.cos(angle), 0.5 + distance * np.sin(angle)])


def _view(network: Network, path: Path) -> np.ndarray:
    return prepare(decode(path.read_bytes(), network.facts.recipe.working_side, 10**8).image, network.facts.recipe)


if __name__ == "__main__":
    main()
