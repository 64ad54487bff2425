"""What a package does with the same photo saved again, ruined photos, pictures that are no fundus, and unknown cameras.

    python benchmarks/familiarity.py --photos-dir FOLDER [--other-cameras FOLDER] [--package models] [--write]

FOLDER holds fundus photos in `fundus/` and their `manifest.csv`; the folder of other cameras holds one subfolder a class or
camera, and is looked through for image files. Needs scikit-image for its sample pictures (pip install scikit-image).
"""

import argparse
import io
import os
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import numpy as np
import pandas as pd
import skimage.data
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from benchmarks.figures import table
from benchmarks.machine import machine_lines, write_section
from benchmarks.model_answers import answers, changed, load, png, validation_photos
from eye_disease.training.degrade import DEGRADATIONS, Degradation
from eye_disease.training.reencode import encoded
from model_code.classifier import Classifier
from model_code.preprocessing import Recipe, disc_square

PICTURES = ("astronaut", "brick", "camera", "cat", "cell", "clock", "coffee", "coins", "colorwheel", "grass", "gravel", "horse")
PICTURES += ("hubble_deep_field", "immunohistochemistry", "logo", "moon", "page", "text", "rocket")
FACES = 20
RUINED = 100
SAVED = 300
SQUARE = Recipe(400)
SAVED_AS = (
    (300, "JPEG", 75),
    (400, "JPEG", 90),
    (512, "JPEG", 60),
    (640, "WEBP", 80),
    (1000, "JPEG", 75),
    (1500, "JPEG", 95),
    (1500, "PNG", 100),
    (3000, "JPEG", 90),
    (512, "TIFF", 100),
)
"""Longer side in pixels, format and quality"""
_NOTES = """
- No fundus: scikit-image's samples, whole and two quarters of each; faces (its `lfw_subset`); noise of all grains; plain
  colours. AUROC of `ood_score` against the validation photos.
- Saved again: validation photos at another size (longer side), format and quality, against the answer to the file as it is.
- Ruined: validation photos, each changed at random within the limits of `eye_disease/training/degrade.py`; other random
  numbers and photos than the gradability score was fitted on, but the same ways. Haze may be a cataract: it has to be
  `review` or `retake`, whatever the class, and never `report`.
- Other cameras: photos from no source of the training set. "wrong" is known only where the folder's name is a class.
- The limits were fitted on the same validation photos, so the shares of the first row are what was asked for, not a finding.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos-dir", type=Path, required=True, help="folder with manifest.csv and fundus/")
    parser.add_argument("--other-cameras", type=Path, help="folder with a subfolder a camera (or a class)")
    parser.add_argument("--package", type=Path, default=Path("models"), help="model package that is looked at")
    parser.add_argument("--write", action="store_true", help="replace the section `Familiarity` of benchmarks/RESULTS.md")
    asked = parser.parse_args()
    classifier, photos = load(asked.package), validation_photos(asked.photos_dir)
    good = answers(classifier, photos["data"])
    lines = [_line("validation photos", good, good, photos["label"])]
    for label in classifier.facts.classes:
        kept = (photos["label"] == label).to_numpy()
        lines.append(_line(f"of them: {label}", good[kept], good, photos["label"][kept]))
    rng = np.random.default_rng(11)
    for name, ruin in DEGRADATIONS.items():
        chosen = photos.sample(RUINED, random_state=3)
        given = answers(classifier, [changed(data, partial(_ruined, ruin=ruin, rng=rng)) for data in chosen["data"]])
        lines.append(_line(f"ruined: {name}", given, good, chosen["label"].reset_index(drop=True)))
    lines.append(_line("no fundus", answers(classifier, [png(one) for one in no_fundus(rng)]), good, None))
    if asked.other_cameras:
        lines += _other_cameras(classifier, asked.other_cameras, good)
    head = [*machine_lines(("scikit-image", "scikit-learn", "numpy", "pillow", "ai-edge-litert"))]
    command = ["python benchmarks/familiarity.py --photos-dir FOLDER", "--other-cameras FOLDER" * bool(asked.other_cameras)]
    head.append(f"- Command: `{' '.join(filter(None, [*command, '--write' * asked.write]))}`")
    header = ("pictures", "n", "retake", "review", "report", "report and wrong", "AUROC of ood_score")
    again = table(("saved again as", "n", "other class", "other decision"), _saved_again(classifier, photos, good))
    text = "\n\n".join(["\n".join(head), table(header, lines), again, _NOTES.strip()])
    print(text)
    if asked.write:
        write_section("Familiarity", text)


def _saved_again(classifier: Classifier, photos: pd.DataFrame, good: pd.DataFrame) -> list[tuple[str, ...]]:
    """How often the answer to a photo changes with the way it is saved, a line for each way and one for all."""
    lines, changes = [], []
    photos = photos.sample(min(SAVED, len(photos)), random_state=5)
    good = good.loc[photos.index].reset_index(drop=True)
    for side, file_format, quality in SAVED_AS:
        files = (encoded(Image.open(io.BytesIO(data)).convert("RGB"), side, file_format, quality) for data in photos["data"])
        given = answers(classifier, files)
        differ = [(given[name] != good[name]).to_numpy() for name in ("predicted_class", "decision")]
        changes.append(differ)
        lossless = file_format in ("PNG", "TIFF")
        name = f"{file_format}, {side} px" + ("" if lossless else f", quality {quality}")
        lines.append((name, str(len(given)), *(f"{one.mean():.3f}" for one in differ)))
    whole = np.concatenate(changes, axis=1)
    return [*lines, ("all", str(whole.shape[1]), *(f"{share:.3f}" for share in whole.mean(axis=1)))]


def no_fundus(rng: np.random.Generator) -> list[Image.Image]:
    """Pictures of everything but a retina."""
    found = []
    for name in PICTURES:
        picture = _rgb(getattr(skimage.data, name)())
        width, height = picture.size
        quarters = (0, 0, width // 2, height // 2), (width // 2, height // 2, width, height)
        found += [picture, *(picture.crop(quarter) for quarter in quarters)]
    found += [_rgb(face).resize((250, 250)) for face in skimage.data.lfw_subset()[:100:5]][:FACES]
    for grain in (0, 1, 2, 4, 8, 16, 32):
        field = gaussian_filter(rng.normal(size=(300, 300, 3)), (grain, grain, 0))
        found.append(_rgb((field - field.min()) / (field.max() - field.min())))
    found += [Image.new("RGB", (300, 300), colour) for colour in ("red", "peru", "grey", "white", "black")]
    return found


def _other_cameras(classifier: Classifier, folder: Path, good: pd.DataFrame) -> list[tuple[str, ...]]:
    lines = []
    for camera in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(path for path in camera.rglob("*") if path.suffix.lower() in {".png", ".jpg", ".jpeg", ".tif"})
        given = answers(classifier, [path.read_bytes() for path in files])
        labels = pd.Series([camera.name] * len(files)) if camera.name in classifier.facts.classes else None
        lines.append(_line(f"other cameras: {camera.name}", given, good, labels))
    return lines


def _line(name: str, given: pd.DataFrame, good: pd.DataFrame, labels: pd.Series | None) -> tuple[str, ...]:
    shares = [(given["decision"] == decision).mean() for decision in ("retake", "review", "report")]
    wrong = "" if labels is None else f"{((given['decision'] == 'report') & (given['predicted_class'] != labels)).mean():.3f}"
    scores = np.concatenate([good["ood_score"], given["ood_score"]])
    strange = np.repeat([False, True], [len(good), len(given)])
    auroc = "" if given is good else f"{roc_auc_score(strange, scores):.4f}"
    return name, str(len(given)), *(f"{share:.3f}" for share in shares), wrong, auroc


def _ruined(photo: Image.Image, ruin: Degradation, rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(ruin(np.asarray(disc_square(photo, SQUARE)), rng))


def _rgb(pixels: np.ndarray) -> Image.Image:
    pixels = np.asarray(pixels)
    if pixels.dtype == bool or pixels.max() <= 1:
        pixels = pixels * 255.0
    return Image.fromarray(pixels[..., :3].astype(np.uint8) if pixels.ndim == 3 else pixels.astype(np.uint8)).convert("RGB")


if __name__ == "__main__":
    main()
