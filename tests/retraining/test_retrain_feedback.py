"""From labels of predictions to photos to train on: found by their bytes, and never on both sides of the split."""

import hashlib
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from eye_disease.evaluation.manifest import DataError
from eye_disease.records.ingest import ingest
from eye_disease.records.labels import Label, LabelBook
from eye_disease.records.storage import Storage
from eye_disease.records.store import find_stores
from eye_disease.retraining.labelled_photos import Feedback, LabelledDigest, join, read_feedback
from eye_disease.retraining.mixture import HELD_OUT, Mixture, mix
from tests.support.logs import MODEL, NOON, append, failed, minutes, record

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")
LATER = NOON + timedelta(hours=3)
BOTH = {"a": "photo-1", "b": "photo-1", "c": "photo-2"}
"""Prediction ids of two photos, one of which was sent twice."""


def _statements(*statements: tuple[str, str, str]) -> list[Label]:
    """(prediction id, label, by), a minute apart."""
    return [Label(prediction_id, label, by, NOON + minutes(n)) for n, (prediction_id, label, by) in enumerate(statements)]


def _labels(feedback: Feedback) -> dict[str, str]:
    return {digest: labelled.label for digest, labelled in feedback.photos.items()}


def test_labels_of_all_answers_to_a_photo_are_the_photos() -> None:
    feedback = join(_statements(("a", "normal", "s1"), ("b", "normal", "s2"), ("c", "glaucoma", "s1")), BOTH)
    assert _labels(feedback) == {"photo-1": "normal", "photo-2": "glaucoma"}
    assert feedback.photos["photo-1"].at == NOON + minutes(1)
    assert (feedback.contradictory, feedback.waiting) == (0, 0)


@pytest.mark.parametrize(("first", "second"), [("a", "a"), ("a", "b")])
def test_a_photo_that_people_differ_on_is_left_out_and_counted(first: str, second: str) -> None:
    feedback = join(_statements((first, "normal", "s1"), (second, "glaucoma", "s2"), ("c", "normal", "s1")), BOTH)
    assert (_labels(feedback), feedback.contradictory) == ({"photo-2": "normal"}, 1)


@pytest.mark.parametrize("second", ["a", "b"])
def test_who_corrects_a_label_counts_with_the_last(second: str) -> None:
    feedback = join(_statements(("a", "normal", "s1"), (second, "glaucoma", "s1")), BOTH)
    assert (_labels(feedback), feedback.contradictory) == ({"photo-1": "glaucoma"}, 0)


def test_labels_without_a_record_wait() -> None:
    feedback = join(
        _statements(("a", "normal", "s1"), ("x", "normal", "s1"), ("x", "glaucoma", "s2"), ("y", "normal", "s1")), BOTH
    )
    assert (_labels(feedback), feedback.contradictory, feedback.waiting) == ({"photo-1": "normal"}, 0, 2)


def test_digests_come_from_the_records_of_every_version(tmp_path: Path) -> None:
    records = [record(0), record(1), record(2, canary=True), failed(3)]
    other = record(0, model_version="2")
    append(tmp_path / MODEL / "1", *records)
    append(tmp_path / MODEL / "2", other)
    append(tmp_path / "another-model" / "1", elsewhere := record(0, model_name="another-model"))
    storage = Storage(str(tmp_path))
    for store in find_stores(storage):
        ingest(store, LATER)
    book = LabelBook(storage, MODEL)
    for answer in (*records, other, elsewhere):
        book.add(answer["prediction_id"], "normal", "s1", LATER)
    feedback = read_feedback(storage, MODEL)
    assert set(feedback.photos) == {answer["image_sha256"] for answer in (*records[:2], records[3], other)}
    assert feedback.waiting == 2, "of the canary and of another model"
    assert read_feedback(storage, "no-such-model") == Feedback({}, 0, 0)


class Clinic:
    """Photos of a few bytes: what is tested here never decodes them."""

    def __init__(self, folder: Path) -> None:
        self.manifest, self.original, self.folder = folder / "manifest.csv", folder / "original", folder / "clinic"
        self.original.mkdir()
        (self.folder / "march").mkdir(parents=True)
        self.rows = pd.DataFrame(
            {
                "path": [f"{n}.jpg" for n in range(8)],
                "label": ["normal", "glaucoma"] * 4,
                "source": "first",
                "group": [f"g{n}" for n in range(8)],
                "split": ["train"] * 4 + ["val"] * 4,
            }
        )
        for path in self.rows["path"]:
            (self.original / path).write_bytes(f"original {path}".encode())
        self.rows.to_csv(self.manifest, index=False)
        self.photos: dict[str, LabelledDigest] = {}

    def photo(self, name: str, label: str = "normal", data: bytes = b"") -> str:
        """A labelled photo in the clinic's folder; its SHA-256."""
        content = data or name.encode()
        (self.folder / name).write_bytes(content)
        return self.labelled(content, label)

    def labelled(self, content: bytes, label: str = "normal") -> str:
        digest = hashlib.sha256(content).hexdigest()
        self.photos[digest] = LabelledDigest(label, LATER)
        return digest

    def mix(self, patients: Path | None = None) -> Mixture:
        return mix(self.manifest, self.original, Feedback(self.photos, 0, 0), self.folder, patients)


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    return Clinic(tmp_path)


def test_photos_are_found_by_their_bytes_and_lose_their_names(clinic: Clinic) -> None:
    digest = clinic.photo("march/Maria Silva left.JPG", "glaucoma")
    clinic.photo("other.txt")
    clinic.labelled(b"not sent from here")
    (clinic.folder / "unlabelled.jpg").write_bytes(b"nobody has said what it shows")
    mixture = clinic.mix()
    assert (mixture.not_found, mixture.known, mixture.digests) == (2, 0, {digest})
    (added,) = mixture.rows[8:].to_dict("records")
    assert (added["path"], added["label"], added["source"]) == (f"feedback/{digest}.jpg", "glaucoma", "feedback")
    assert mixture.files == {added["path"]: clinic.folder / "march/Maria Silva left.JPG"}
    assert "Maria" not in mixture.rows.to_csv()
    assert mixture.rows[:8][list(clinic.rows)].equals(clinic.rows), (
        "the original manifest, its split above all, stays as it was"
    )


def test_a_photo_of_the_manifest_stays_where_it_is(clinic: Clinic) -> None:
    clinic.photo("again.jpg", "glaucoma", data=b"original 6.jpg")
    mixture = clinic.mix()
    assert (mixture.known, len(mixture.rows), mixture.files) == (1, 8, {})


def test_a_share_of_the_patients_is_held_out_whole_and_always_the_same(clinic: Clinic, tmp_path: Path) -> None:
    lines = [f"march/{patient}-{eye}.jpg,{patient}" for patient in range(120) for eye in "lr"]
    patients = tmp_path / "patients.csv"
    patients.write_text("\n".join(["path,patient", *lines]))
    for line in lines[:100]:
        clinic.photo(line.split(",")[0])
    first = clinic.mix(patients).rows[8:].set_index("path")
    for line in lines[100:]:
        clinic.photo(line.split(",")[0])
    second = clinic.mix(patients).rows[8:].set_index("path")
    assert second.loc[first.index, "split"].equals(first["split"]), "what was learned from is never measured on later"
    assert (second.groupby("group")["split"].nunique() == 1).all()
    assert (second.groupby("group").size() == 2).all()
    held_out = (second["split"] == "val").mean()
    assert HELD_OUT - 0.12 < held_out < HELD_OUT + 0.12


def test_without_patients_each_photo_is_a_group(clinic: Clinic) -> None:
    for n in range(20):
        clinic.photo(f"{n}.png")
    added = clinic.mix().rows[8:]
    assert added["group"].nunique() == 20
    assert set(added["split"]) == {"train", "val"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("split", "has no column split"),
        ("photo", "1 photos of .* are not below"),
        ("clinic", "is not a folder. Expected the folder with the photos that were sent"),
        ("patients", "lacks the columns"),
    ],
)
def test_what_cannot_be_used_is_said(clinic: Clinic, tmp_path: Path, damage: str, message: str) -> None:
    patients = None
    if damage == "split":
        clinic.rows.drop(columns="split").to_csv(clinic.manifest, index=False)
    elif damage == "photo":
        (clinic.original / "3.jpg").unlink()
    elif damage == "clinic":
        clinic.folder = tmp_path / "nowhere"
    else:
        patients = tmp_path / "patients.csv"
        patients.write_text("file,patient\na.jpg,1\n")
    with pytest.raises(DataError, match=message):
        clinic.mix(patients)
