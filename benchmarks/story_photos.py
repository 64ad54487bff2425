"""The photos of the story: who has seen which, by patient, so that nothing is measured on what it was learned from."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from benchmarks.drift_answers import DEGRADATIONS, degraded

HAZE = next(one for one in DEGRADATIONS if (one.kind, one.strength) == ("haze", "45 %"))
"""As a lens that nobody has cleaned gives."""
EYES = 2
"""Photos of a patient: of more of them, one patient would be a good part of a window."""


@dataclass(frozen=True)
class Scale:
    """How much the story is told with."""

    window: int = 52
    """Photos that the drift job judges at a time: a few more than DRIFT_MIN_PREDICTIONS"""
    judged: int = 340
    """Photos that the versions are compared on: a dozen of the rarest class, so that one is less than a tenth of its recall"""
    learned: int = 400
    """Of the first training's photos, in the retraining's mixture"""
    training: dict[str, object] = field(default_factory=dict)
    """Further parameters of the retraining"""


@dataclass(frozen=True)
class Photo:
    """An image file and what it shows."""

    data: bytes
    label: str


@dataclass(frozen=True)
class StoryPhotos:
    """Patients are in one of the pools `hazy`, `judged`, `clear` and the first training's."""

    hazy: list[Photo]
    """Two windows from behind a hazy lens"""
    labelled: list[Photo]
    """The first of them; learned from, once labels are there"""
    judged: list[Photo]
    """No version has learned from them (the bundled one has chosen its epoch and its temperature by them, among others)"""
    clear: list[Photo]
    """A window of ordinary photos"""
    folder: Path
    """Where the paths of both manifests start"""
    manifest: Path
    """Of the first training: some of its photos; `clear` and as many more are its validation split"""
    gate_manifest: Path
    """Of the judged ones"""
    clinic: Path
    """Folder of the hazy photos, as they were sent"""
    patients: Path
    """CSV: which of these belong to one patient"""

    @classmethod
    def lay_out(cls, source: Path, folder: Path, scale: Scale) -> "StoryPhotos":
        """source: a folder with `manifest.csv` (path, label, source, group, split) and `fundus/`; folder: for what is made.

        Raises FileNotFoundError without a manifest, ValueError if it holds too few validation photos.
        """
        rows = pd.read_csv(source / "manifest.csv", dtype=str)
        validation = rows[rows["split"] == "val"]
        validation = _by_patient(validation[validation.groupby("group")["path"].transform("size") <= EYES])
        sizes = (2 * scale.window, scale.judged, scale.window)
        if len(validation) < sum(sizes):
            raise ValueError(
                f"{source} has {len(validation)} photos of the split val, {EYES} a patient at most, and needs {sum(sizes)}."
            )
        hazy, judged, clear = _pools(validation, sizes)
        photos = source / "fundus"
        training = _by_patient(rows[rows["split"] == "train"])[: scale.learned]
        manifest, gate_manifest = folder / "manifest.csv", folder / "judged.csv"
        pd.concat([training, clear]).to_csv(manifest, index=False)
        judged.to_csv(gate_manifest, index=False)
        clinic, patients = folder / "clinic", folder / "patients.csv"
        sent = [Photo(degraded(one.data, HAZE), one.label) for one in _read(hazy, photos)]
        clinic.mkdir()
        names = [f"visit-{number:03}.jpg" for number in range(len(sent))]
        for name, one in zip(names, sent, strict=True):
            (clinic / name).write_bytes(one.data)
        pd.DataFrame({"path": names, "patient": hazy["group"].to_numpy()}).to_csv(patients, index=False)
        usual = _read(clear, photos)[: scale.window]
        return cls(sent, sent[: scale.window], _read(judged, photos), usual, photos, manifest, gate_manifest, clinic, patients)


def _by_patient(rows: pd.DataFrame) -> pd.DataFrame:
    """Each patient's photos together, in an order of chance in which any part holds about the same mix of classes."""
    patients = rows.groupby("group")["label"].first().sample(frac=1, random_state=0)
    ranks = patients.groupby(patients).cumcount() + 0.5
    places = ranks / patients.groupby(patients).transform("size")
    return rows.sort_values("group", key=lambda column: column.map(places.rank(method="first")), ignore_index=True)


def _pools(rows: pd.DataFrame, sizes: tuple[int, int, int]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The first two have so many photos, the last one twice as many as asked for, without patients that another pool has."""
    hazy, rest = rows[: sizes[0]], rows[sizes[0] :]
    rest = rest[~rest["group"].isin(hazy["group"])]
    judged, rest = rest[: sizes[1]], rest[sizes[1] :]
    return hazy, judged, rest[~rest["group"].isin(judged["group"])][: 2 * sizes[2]]


def _read(rows: pd.DataFrame, folder: Path) -> list[Photo]:
    return [Photo((folder / path).read_bytes(), label) for path, label in zip(rows["path"], rows["label"], strict=True)]
