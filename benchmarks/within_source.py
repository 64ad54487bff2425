"""Does a model see the disease, or the camera? Its figures within each source, and what it does with what it cannot judge.

    python benchmarks/within_source.py --photos-dir FOLDER [--package models | --url http://127.0.0.1:8080] [--write]

FOLDER holds `manifest.csv` (path, label, source, group and, if known, split and grade), the photos in `fundus/`, and, if there
are any, photos of other diseases in `more.csv`. Other photos: `--manifest FILE.csv --photos FOLDER`. Cameras that the model has
not seen: `--other-cameras`, a manifest or a folder with a subfolder a class. Takes about two minutes on two cores.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.ask import Ask, ask_all, of_package, of_url
from benchmarks.figures import table
from benchmarks.machine import machine_lines, write_section
from eye_disease.evaluation.figures import macro_auroc
from eye_disease.evaluation.manifest import of_folder, read_manifest
from eye_disease.evaluation.parts import Answers, Part
from eye_disease.evaluation.shares import Share
from eye_disease.evaluation.within_source import GRADED, REFERABLE, separations
from eye_disease.training.reencode import encoded
from model_code.decision import HEALTHY

OTHER, TWO = "other", "several"
"""Labels of more.csv: a disease outside the classes; two of them in one eye."""
WAYS: dict[str, tuple[int, str, int]] = {
    "300 px, JPEG 60": (300, "JPEG", 60),
    "300 px, WebP 80": (300, "WEBP", 80),
    "400 px, JPEG 75": (400, "JPEG", 75),
    "512 px, PNG": (512, "PNG", 0),
    "768 px, JPEG 95": (768, "JPEG", 95),
    "1,024 px, TIFF": (1024, "TIFF", 0),
    "3,000 px, JPEG 85": (3000, "JPEG", 85),
}
"""How the same photo is saved again: longer side, format, quality"""
Row = tuple[str, str, str, str]
"""What, value, 95 % interval, photos"""
_NOTES = f"""
- AUROC: the probability of the disease, its photos against those labelled `{HEALTHY}` (or `not_<disease>`), within one source.
  DeLong's interval with the photos of a patient taken together; shares with Wilson's, photos of a patient counted as alike.
- "reported as normal": of all such photos, decision `report` and class `{HEALTHY}`. "error": of the answers with decision
  `report`, those of another class than the label.
- Saved again: against the answer to the file as it came; LANCZOS, chroma halved.
- Pooled figures flatter a model that tells sources apart; the ones within a source do not.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos-dir", type=Path, help="folder with manifest.csv, fundus/ and, if there is one, more.csv")
    parser.add_argument("--manifest", type=Path, help="another manifest")
    parser.add_argument("--photos", type=Path, help="where the other manifest's paths start (its own folder)")
    parser.add_argument("--split", default="val", help="rows of this split are asked about; `all`: every row (val)")
    parser.add_argument("--package", type=Path, default=Path("models"), help="model package that is asked (models)")
    parser.add_argument("--url", help="served model that is asked instead")
    parser.add_argument("--other-cameras", type=Path, help="manifest CSV, or folder with a subfolder a class")
    parser.add_argument("--saved-again", type=int, default=150, help="photos that are saved again; 0: none (150)")
    parser.add_argument("--title", default="Within a source", help="section of RESULTS.md (Within a source)")
    parser.add_argument("--write", action="store_true", help="replace that section of benchmarks/RESULTS.md")
    asked = parser.parse_args()
    if not (asked.photos_dir or asked.manifest):
        parser.error("name photos: --photos-dir or --manifest")
    ask = of_url(asked.url) if asked.url else of_package(asked.package)
    manifest, photos = asked.manifest or asked.photos_dir / "manifest.csv", asked.photos
    rows = read_photos(manifest, photos, asked.split)
    more = manifest.with_name("more.csv")
    tables = measure(ask, rows, read_photos(more, photos, asked.split) if more.is_file() else None)
    if asked.saved_again:
        tables["The same photo saved again"] = saved_again(ask, rows, asked.saved_again)
    if asked.other_cameras:
        tables["Cameras it has not seen"] = other_cameras(ask, read_photos(asked.other_cameras, None, "all"))
    model = "a served model" if asked.url else f"`{asked.package}`"
    head = [*machine_lines(("scikit-learn", "numpy", "pillow")), f"- Asked: {model} about {len(rows)} photos", _command(asked)]
    text = "\n\n".join(["\n".join(head), *(f"### {title}\n\n{found}" for title, found in tables.items()), _NOTES.strip()])
    print(text)
    if asked.write:
        write_section(asked.title, text)


def read_photos(listed: Path, photos: Path | None, split: str) -> pd.DataFrame:
    """The manifest's rows of a split (all of them where it has none), with the column `file`; or a folder's photos."""
    rows = of_folder(listed) if listed.is_dir() else read_manifest(listed)
    beside = listed.parent / "fundus"
    folder = listed if listed.is_dir() else photos or (beside if beside.is_dir() else listed.parent)
    if split != "all" and rows["split"].notna().all():
        rows = rows[rows["split"] == split]
    return rows.assign(file=[folder / path for path in rows["path"]]).reset_index(drop=True)


def measure(ask: Ask, rows: pd.DataFrame, more: pd.DataFrame | None) -> dict[str, str]:
    """Title -> table: AUROC of each disease within each source, the figures, the figures by source."""
    everything = rows if more is None else pd.concat([rows, more], ignore_index=True)
    given = ask_all(ask, [file.read_bytes for file in everything["file"]])
    read = given["error_code"].isna()
    everything, given = everything[read].reset_index(drop=True), given[read].reset_index(drop=True)
    whole = _answers(given, everything)
    known = everything["label"].isin(whole.classes).to_numpy()
    judged = whole.of(known)
    lines = _figures(judged, given[known]) + _outside(everything, given)
    if not read.all():
        lines.append(_share("photos that are not answered", ~read.to_numpy(), None))
    return {
        "Each disease against healthy": _separations(whole),
        "Figures": table(("what", "value", "95 % interval", "photos"), lines),
        "Figures by source": _by_source(judged),
    }


def saved_again(ask: Ask, rows: pd.DataFrame, photos: int) -> str:
    """How many answers change where the same photo is saved in another way."""
    chosen = rows.sample(min(photos, len(rows)), random_state=1)
    plain = ask_all(ask, [file.read_bytes for file in chosen["file"]])
    lines, others = [], []
    for name, way in WAYS.items():
        given = ask_all(ask, [partial(_saved, file, *way) for file in chosen["file"]])
        other = [(given[column] != plain[column]).to_numpy() for column in ("predicted_class", "decision")]
        others.append(other)
        lines.append((name, *(f"{one.mean():.3f}" for one in other), str(len(chosen))))
    whole = np.mean(others, axis=(0, 2))
    lines.append(("all", *(f"{one:.3f}" for one in whole), str(len(WAYS) * len(chosen))))
    return table(("saved as", "other class", "other decision", "photos"), lines)


def other_cameras(ask: Ask, rows: pd.DataFrame) -> str:
    """What it sees in photos of cameras it has not seen, and how much of that it reports."""
    given = ask_all(ask, [file.read_bytes for file in rows["file"]])
    answers = _answers(given, rows)
    lines = []
    for name in ("all", *sorted(set(rows["source"]))):
        here = ((rows["source"] == name) | (name == "all")).to_numpy()
        known = here & rows["label"].isin(answers.classes).to_numpy()
        lines.append(_share(f"{name}: reported", answers.reported[here], answers.column("group")[here]))
        if known.any():
            wrong = (answers.reported & ~answers.right)[known]
            lines.append(_share(f"{name}: reported and wrong", wrong, answers.column("group")[known]))
    return _separations(answers) + "\n\n" + table(("what", "value", "95 % interval", "photos"), lines)


def _answers(given: pd.DataFrame, rows: pd.DataFrame) -> Answers:
    classes = tuple(name.removeprefix("prob_") for name in given.columns if name.startswith("prob_"))
    return Answers.of_rows(classes, given.to_dict("records"), rows)


def _separations(answers: Answers) -> str:
    lines = [
        (one.name, one.source, f"{a.value:.3f}", f"{a.low:.3f} - {a.high:.3f}", str(a.ill), str(a.healthy))
        for one in separations(answers)
        for a in [one.auroc]
    ]
    return table(("disease", "source", "AUROC", "95 % interval", "with it", "healthy"), lines, text_columns=2)


def _figures(answers: Answers, given: pd.DataFrame) -> list[Row]:
    """Of photos with labels among the classes."""
    labels, part = answers.column("label"), Part.of(answers)
    patients, decisions = answers.column("group"), given["decision"].to_numpy(str)
    auroc = macro_auroc(answers.probabilities, np.array([answers.classes.index(label) for label in labels]))
    missed = answers.reported & (answers.answered == HEALTHY)
    serious = (labels == GRADED) & (answers.rows["grade"].to_numpy(float) >= REFERABLE)
    sources = answers.column("source")
    rows: list[Row] = [
        _of("accuracy", part.accuracy),
        ("macro-F1", f"{part.macro_f1:.3f}", "", str(len(labels))),
        ("macro AUROC", f"{auroc:.3f}", "", str(len(labels))),
        ("expected calibration error", f"{part.calibration_error:.3f}", "", str(len(labels))),
        _of("error among reported", part.error_among_reported),
        _of("reported", part.reported),
        _share("any disease reported as normal", missed[labels != HEALTHY], patients[labels != HEALTHY]),
    ]
    for name in ("all", *np.unique(sources[serious])):
        here = serious & ((sources == name) | (name == "all"))
        rows.append(_share(f"DR of grade {REFERABLE} and above reported as normal, {name}", missed[here], patients[here]))
    for label, said in (("cataract", "cataract"), (HEALTHY, "healthy")):
        here = labels == label
        rows.append(_share(f"{said} sent to `retake`", decisions[here] == "retake", patients[here]))
    return rows


def _outside(rows: pd.DataFrame, given: pd.DataFrame) -> list[Row]:
    """Of photos that no class is right for."""
    reported = (given["decision"] == "report").to_numpy()
    healthy = reported & (given["predicted_class"] == HEALTHY).to_numpy()
    found = []
    for label, said, hits in ((OTHER, "other diseases reported as normal", healthy), (TWO, "two diseases: reported", reported)):
        here = (rows["label"] == label).to_numpy()
        if here.any():
            found.append(_share(said, hits[here], rows["group"].to_numpy(str)[here]))
    return found


def _by_source(answers: Answers) -> str:
    names = answers.column("source")
    lines = []
    for name in np.unique(names):
        part = Part.of(answers.of(names == name))
        shares = (part.accuracy, part.reported, part.error_among_reported)
        numbers = (f"{part.macro_f1:.3f}", f"{part.calibration_error:.3f}")
        cells = ["" if share is None else f"{share.value:.3f} ({share.low:.3f} - {share.high:.3f})" for share in shares]
        lines.append((str(name), str(part.accuracy.n), cells[0], *numbers, *cells[1:]))
    return table(("source", "photos", "accuracy", "macro-F1", "calibration error", "reported", "error among reported"), lines)


def _share(what: str, hits: np.ndarray, patients: np.ndarray | None) -> Row:
    return _of(what, Share.of(hits, patients) if len(hits) else None)


def _of(what: str, share: Share | None) -> Row:
    if share is None:
        return what, "", "", "0"
    return what, f"{share.value:.3f}", f"{share.low:.3f} - {share.high:.3f}", str(share.n)


def _saved(file: Path, side: int, file_format: str, quality: int) -> bytes:
    with Image.open(file) as photo:
        return encoded(photo.convert("RGB"), side, file_format, quality)


def _command(asked: argparse.Namespace) -> str:
    """As it can be typed again; folders of this machine are not named."""
    given = {"--photos-dir": asked.photos_dir, "--manifest": asked.manifest, "--other-cameras": asked.other_cameras}
    parts = [f"{name} {'FILE.csv' if path.is_file() else 'FOLDER'}" for name, path in given.items() if path]
    return f"- Command: `{' '.join(['python benchmarks/within_source.py', *parts, *['--write'] * asked.write])}`"


if __name__ == "__main__":
    main()
