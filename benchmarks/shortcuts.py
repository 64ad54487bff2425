"""What could give the class away beside the retina: how well it predicts, and how much the answers hang on it.

    python benchmarks/shortcuts.py --photos-dir FOLDER [--package models] [--write]

FOLDER holds fundus photos in `fundus/` and their `manifest.csv` (path, label, source, group, split). Takes a few minutes.
"""

import argparse
import io
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from benchmarks.figures import table
from benchmarks.machine import machine_lines, write_section
from benchmarks.model_answers import CHANGES, answers, changed, load, validation_photos
from model_code.decode import decode
from model_code.preprocessing import Recipe, disc_square, field_of_view, prepare

RECIPE = Recipe(224)
POSITIVE, NEGATIVE = "diabetic_retinopathy", "normal"
SIDE = 20
"""Photos of either class below which a source is left out."""
_NOTES = f"""
- Probes: a random forest of 200 trees in five folds by patient tells {POSITIVE} from {NEGATIVE} by nothing but the
  features named; AUROC, 0.5 is chance. "Before": of the file, or of the disc's crop. "After": of what the network sees.
  Pooled, a feature that tells sources apart tells the classes apart too, as far as their shares differ between sources;
  "within a source" is the mean of the sources with {SIDE} photos of both classes or more.
- Silhouette: which pixels of a 56 x 56 raster are brighter than 14. Colour: mean and deviation of each channel. Fine grain:
  deviation of each channel's Laplacian, and its excess on the borders of the 8 x 8 blocks of JPEG.
- Colour and fine grain are not removed, since disease shows in them too; augmentation makes them say less. The second table
  tells what that is worth: the accuracy of the answers to validation photos changed in ways that no diagnosis hangs on.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos-dir", type=Path, required=True, help="folder with manifest.csv and fundus/")
    parser.add_argument("--package", type=Path, default=Path("models"), help="model package whose answers are looked at")
    parser.add_argument("--write", action="store_true", help="replace the section `Shortcuts` of benchmarks/RESULTS.md")
    asked = parser.parse_args()
    command = "- Command: `python benchmarks/shortcuts.py --photos-dir FOLDER" + " --write`" * asked.write
    head = "\n".join([*machine_lines(("scikit-learn", "numpy", "pillow", "ai-edge-litert")), command.rstrip("`") + "`"])
    text = "\n\n".join(
        [
            head,
            "### What the class can be told from\n\n" + probes(asked.photos_dir),
            "### What the answers hang on\n\n" + sensitivity(asked.package, asked.photos_dir),
            _NOTES.strip(),
        ]
    )
    print(text)
    if asked.write:
        write_section("Shortcuts", text)


def probes(folder: Path) -> str:
    """The table of AUROCs."""
    rows = pd.read_csv(folder / "manifest.csv")
    rows = rows[rows["label"].isin([POSITIVE, NEGATIVE])].reset_index(drop=True)
    before: dict[str, list[np.ndarray]] = {}
    after: dict[str, list[np.ndarray]] = {}
    for path in rows["path"]:
        data = (folder / "fundus" / path).read_bytes()
        photo = decode(data, RECIPE.working_side, 10**8).image
        square, view = np.asarray(disc_square(photo, RECIPE)), prepare(photo, RECIPE)
        with Image.open(io.BytesIO(data)) as opened:
            tables = getattr(opened, "quantization", None) or {0: [0]}
            found = [*opened.size, len(data), len(data) / np.prod(opened.size), float(np.mean(tables[0]))]
        before.setdefault("size and compression", []).append(np.array(found))
        before.setdefault("silhouette", []).append(_silhouette(square))
        after.setdefault("silhouette", []).append(_silhouette(view))
        for features, pixels in ((before, square), (after, view)):
            features.setdefault("colour", []).append(_colour(pixels))
            features.setdefault("fine grain", []).append(_grain(pixels))
    is_positive = (rows["label"] == POSITIVE).to_numpy()

    def aurocs(features: dict[str, list[np.ndarray]], name: str) -> tuple[str, str]:
        """Pooled, and within a source."""
        if name not in features:
            return "not seen", "not seen"
        forest = RandomForestClassifier(200, random_state=0, n_jobs=-1)
        folds = GroupKFold(5).split(features[name], is_positive, rows["group"])
        scores = cross_val_predict(forest, np.stack(features[name]), is_positive, cv=folds, method="predict_proba")
        within = _within_sources(is_positive, scores[:, 1], rows["source"].to_numpy(str))
        return f"{roc_auc_score(is_positive, scores[:, 1]):.3f}", "no source has both" if within is None else f"{within:.3f}"

    header = ("features", "before", "before, within a source", "after", "after, within a source")
    return table(header, [(name, *aurocs(before, name), *aurocs(after, name)) for name in before])


def _within_sources(is_positive: np.ndarray, scores: np.ndarray, sources: np.ndarray) -> float | None:
    """Mean AUROC of the sources with SIDE photos or more of both sides, by their photos; None where there is none."""
    found, photos = [], []
    for source in np.unique(sources):
        here = sources == source
        if min(is_positive[here].sum(), (~is_positive[here]).sum()) >= SIDE:
            found.append(roc_auc_score(is_positive[here], scores[here]))
            photos.append(here.sum())
    return float(np.average(found, weights=photos)) if found else None


def sensitivity(package: Path, folder: Path) -> str:
    """The table of accuracies on changed validation photos."""
    classifier, photos = load(package), validation_photos(folder)
    plain = answers(classifier, photos["data"])
    lines = [_line("as they come", plain, plain, photos["label"])]
    for name, change in CHANGES.items():
        given = answers(classifier, (changed(data, change) for data in photos["data"]))
        lines.append(_line(name, given, plain, photos["label"]))
    recalls = (f"recall {name.replace('_', ' ')}" for name in classifier.facts.classes)
    return table(("validation photos", "accuracy", *recalls, "other class", "report"), lines)


def _line(name: str, given: pd.DataFrame, plain: pd.DataFrame, labels: pd.Series) -> tuple[str, ...]:
    right = given["predicted_class"] == labels
    shares = [right.mean(), *right.groupby(labels).mean(), (given["predicted_class"] != plain["predicted_class"]).mean()]
    return name, *(f"{share:.3f}" for share in [*shares, (given["decision"] == "report").mean()])


def _silhouette(pixels: np.ndarray) -> np.ndarray:
    lit = Image.fromarray((pixels.max(axis=2) > 14).astype(np.uint8) * 255)
    return np.asarray(lit.resize((56, 56), Image.Resampling.BOX)).ravel() > 127


def _colour(pixels: np.ndarray) -> np.ndarray:
    inside = pixels[_middle(len(pixels))]
    return np.concatenate([inside.mean(axis=0), inside.std(axis=0)])


def _grain(pixels: np.ndarray) -> np.ndarray:
    light = pixels.astype(np.float32)
    laplacian = 4 * light[1:-1, 1:-1] - light[:-2, 1:-1] - light[2:, 1:-1] - light[1:-1, :-2] - light[1:-1, 2:]
    steps = np.abs(np.diff(light.mean(axis=2), axis=1)).mean(axis=0)
    blocks = [steps[offset::8].mean() for offset in range(8)]
    inside = laplacian[_middle(len(pixels))[1:-1, 1:-1]]
    return np.array([*inside.std(axis=0), max(blocks) / np.mean(blocks)])


def _middle(side: int) -> np.ndarray:
    """bool (side, side): well inside the field of view."""
    inner = int(0.8 * side) // 2 * 2
    mask = np.zeros((side, side), bool)
    start = (side - inner) // 2
    mask[start : start + inner, start : start + inner] = field_of_view(inner).astype(bool)
    return mask


if __name__ == "__main__":
    main()
