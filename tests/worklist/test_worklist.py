"""From answers on record and a folder of photos to labels: the worklist."""

import csv
import hashlib
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eye_disease.common.model_process import heatmaps
from eye_disease.records.ingest import ingest
from eye_disease.records.labels import CHOSEN, DRAWN, FeedbackError, Label, LabelBook, Labels
from eye_disease.records.storage import Storage
from eye_disease.records.store import find_stores
from eye_disease.registry.versions import FetchedVersion
from eye_disease.verdict.realised import join
from eye_disease.worklist.build import Worklist, WorklistError, build
from eye_disease.worklist.candidates import candidates, choose
from tests.support.browser import Browser, needs_chromium
from tests.support.logs import CLASSES, MODEL, append, record
from tests.support.servers import NAME, PROJECT

NOW = datetime.now(UTC).replace(microsecond=0)
SINCE = NOW - timedelta(days=7)
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Clinic:
    """A log and a folder of photos."""

    def __init__(self, folder: Path) -> None:
        self.log, self.photos = folder / "log", folder / "photos"
        self.photos.mkdir(parents=True)
        self.storage, self.book = Storage(str(self.log)), LabelBook(Storage(str(self.log)), MODEL)
        self._count = 0

    def photo(self, **changes: Any) -> dict[str, Any]:
        """Of a photo of its own, answered half a day ago: its record."""
        self._count += 1
        file = self.photos / f"{self._count:03d}.jpg"
        pixels = np.random.default_rng(self._count).integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).save(file)
        return self.answer(file, **changes)

    def answer(self, file: Path, version: str = "1", hours: float = 12, **changes: Any) -> dict[str, Any]:
        """A record of an answer to a file; taken in by `take_in`."""
        self._count += 1
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        made = record(self._count, NOW - timedelta(hours=hours), image_sha256=digest, model_version=version, **changes)
        append(self.log / MODEL / version, made)
        return made

    def take_in(self) -> None:
        for store in find_stores(self.storage):
            ingest(store, NOW)

    def build(self, limit: int = 8, **changes: Any) -> Worklist:
        def none(version: str, files: list[Path]) -> list[str | None]:
            return [None] * len(files)

        return build(self.storage, MODEL, self.photos, SINCE, limit, **{"heatmaps_of": none, "seed": 1} | changes)


@pytest.fixture
def clinic(tmp_path: Path, no_waiting_for_the_disk: None) -> Clinic:
    return Clinic(tmp_path)


def _files(clinic: Clinic) -> dict[str, Path]:
    return {hashlib.sha256(file.read_bytes()).hexdigest(): file for file in clinic.photos.iterdir()}


def _even(**top: float) -> dict[str, float]:
    return {f"prob_{name}": top.get(name, 0.0) for name in CLASSES}


def test_candidates_are_the_photos_at_hand_answered_lately_without_a_label(clinic: Clinic) -> None:
    wanted, old, gone, labelled = (clinic.photo() for _ in range(4))
    two = clinic.answer(clinic.photos / "001.jpg", version="2", hours=2, predicted_class="normal")
    clinic.answer(clinic.photos / "003.jpg", hours=24 * 8)
    (clinic.photos / "005.jpg").unlink()
    (clinic.photos / "notes.txt").write_text("no photo")
    clinic.take_in()
    clinic.book.add(labelled["prediction_id"], "normal", "grader", NOW)
    clinic.book.add(old["prediction_id"], "normal", "grader", NOW)
    photos = candidates(clinic.storage, MODEL, clinic.book.read(), _files(clinic), SINCE, {("2", "")})
    assert list(photos.index) == [wanted["image_sha256"]]
    (row,) = photos.to_dict("records")
    assert (row["prediction_id"], row["model_version"], row["disagree"]) == (two["prediction_id"], "2", True)
    assert row["margin"] == pytest.approx(0.6)
    assert row["drifted"]
    assert gone["image_sha256"] not in photos.index


def test_what_teaches_most_comes_and_the_lot_falls_on_any(clinic: Clinic) -> None:
    easy = [clinic.photo() for _ in range(40)]
    hard = [clinic.photo(**_even(cataract=0.51, normal=0.49)) for _ in range(6)]
    strange = clinic.photo(unfamiliar_camera=True, decision="review")
    clinic.take_in()
    photos = candidates(clinic.storage, MODEL, Labels({}, 0, 0), _files(clinic), SINCE)
    drawn = []
    for seed in range(60):
        listed = choose(photos, 8, np.random.default_rng(seed))
        assert len(listed) == 8
        assert listed.index.is_unique
        assert listed["by_lot"].sum() == 2
        chosen = listed[~listed["by_lot"]]
        lot = set(listed.index[listed["by_lot"]])
        difficult = {photo["image_sha256"] for photo in [*hard, strange]} - lot
        assert difficult <= set(chosen.index) or set(chosen.index) <= difficult
        drawn += list(lot)
    share = np.mean([digest in {photo["image_sha256"] for photo in easy} for digest in drawn])
    assert share == pytest.approx(40 / 47, abs=0.12), "each photo has the same chance"
    reasons = dict(zip(listed.index, listed["reason"], strict=True))
    shown = [reasons[digest["image_sha256"]] for digest in hard if not listed["by_lot"].get(digest["image_sha256"], True)]
    assert set(shown) == {"two classes are almost equally probable"}


def test_fewer_photos_than_asked_for(clinic: Clinic) -> None:
    clinic.photo()
    clinic.take_in()
    photos = candidates(clinic.storage, MODEL, Labels({}, 0, 0), _files(clinic), SINCE)
    assert len(choose(photos, 60, np.random.default_rng(0))) == 1


def test_nothing_to_look_at_is_said(clinic: Clinic) -> None:
    clinic.photo()
    with pytest.raises(WorklistError, match=r"(?s)None of the 1 photos in .*drift_job\.py run. ingests"):
        clinic.build()


def _label(answer: dict[str, Any], label: str, chosen: str, at: datetime = NOW) -> Label:
    return Label(answer["prediction_id"], label, "grader", at, chosen)


def test_realised_accuracy_stays_that_of_all_photos(clinic: Clinic) -> None:
    """Half of the difficult ones are answered wrongly and nine in ten of all; labels of both kinds come in."""
    right = [clinic.photo() for _ in range(18)]
    wrong = [clinic.photo(**_even(cataract=0.51, normal=0.49)) for _ in range(2)]
    clinic.take_in()
    statements = [_label(answer, "cataract", DRAWN) for answer in right[:9]] + [_label(wrong[0], "normal", DRAWN)]
    assert join(Labels.of(statements), find_stores(clinic.storage)).versions["1"].accuracy.value == 0.9
    statements += [_label(wrong[1], "normal", CHOSEN), _label(right[10], "cataract", CHOSEN)]
    joined = join(Labels.of(statements), find_stores(clinic.storage))
    assert (joined.versions["1"].labelled, joined.versions["1"].accuracy.value, joined.waiting) == (10, 0.9, 0)


def test_a_difficult_photo_on_which_the_lot_falls_later_counts(clinic: Clinic) -> None:
    hard, other = clinic.photo(), clinic.photo()
    clinic.take_in()
    labels = Labels.of([_label(hard, "normal", CHOSEN), _label(other, "normal", "")])
    photos = candidates(clinic.storage, MODEL, labels, _files(clinic), SINCE)
    assert (list(photos.index), list(photos["judged"])) == ([hard["image_sha256"]], [True])
    assert list(choose(photos, 4, np.random.default_rng(0))["by_lot"]) == [True]
    again = _label(hard, "normal", DRAWN, NOW + timedelta(hours=1))
    assert Labels.of([_label(hard, "normal", CHOSEN), again]).representative().current.keys() == {hard["prediction_id"]}
    assert Labels.of([_label(hard, "normal", CHOSEN)]).representative().current == {}


def test_why_a_photo_was_looked_at_is_kept_and_a_wrong_word_refused(clinic: Clinic, tmp_path: Path) -> None:
    first, second, third = (clinic.photo() for _ in range(3))
    clinic.take_in()
    rows = [
        f"{first['prediction_id']},normal,{CHOSEN}",
        f"{second['prediction_id']},normal,",
        f"{third['prediction_id']},normal,x",
    ]
    file = tmp_path / "labels.csv"
    file.write_text("\n".join(["prediction_id,label,chosen", *rows]))
    done = clinic.book.import_file(file, "grader", NOW)
    assert done.taken == 2
    assert "chosen='x' is not known. Expected chosen, lot, or nothing." in done.refused[0]
    current = clinic.book.read().current
    assert {name: label.chosen for name, label in current.items()} == {
        first["prediction_id"]: CHOSEN,
        second["prediction_id"]: "",
    }
    (stored,) = (clinic.log / MODEL / "_labels").iterdir()
    assert '"chosen"' not in stored.read_text().splitlines()[1], "as releases before it read it"
    with pytest.raises(FeedbackError):
        file.write_text(f"prediction_id,label,chosen\n{first['prediction_id']},normal,1\n")
        clinic.book.import_file(file, "grader", NOW)


def test_the_page_holds_no_file_name_and_asks_for_nothing(clinic: Clinic) -> None:
    clinic.photo(site="</script><script>alert(1)</script>")
    (clinic.photos / "001.jpg").rename(clinic.photos / "Maria Silva.jpg")
    clinic.take_in()
    made = clinic.build()
    assert "Maria" not in made.html
    assert "<script>alert" not in made.html
    assert "http://" not in made.html
    assert "https://" not in made.html


@needs_chromium
def test_a_specialist_works_through_it_with_the_keyboard(clinic: Clinic, tmp_path: Path) -> None:
    made = {prediction_id["prediction_id"] for prediction_id in (clinic.photo(decision="review") for _ in range(6))}
    clinic.take_in()
    listed = clinic.build(limit=6, heatmaps_of=lambda version, files: [PNG] * len(files))
    assert (listed.photos, listed.by_lot, listed.without_heatmap) == (6, 2, 0)
    page, downloads = tmp_path / "worklist.html", tmp_path / "downloads"
    page.write_text(listed.html)
    downloads.mkdir()
    with Browser(tmp_path) as browser:
        browser.open(page.as_uri(), downloads)
        browser.wait_for("document.getElementById('photo').naturalWidth === 64")  # it is decoded beside the script
        assert browser.value("document.getElementById('answer').textContent") == ""
        browser.press("a")
        assert "Version 1: cataract 0.70" in browser.value("document.getElementById('answer').textContent")
        assert browser.value("document.getElementById('heatmap').style.visibility") == "visible"
        for key in ("1", "4", "u", "b", "ArrowLeft", "2"):  # thinks better of the fourth, a bad photo
            browser.press(key)
        assert browser.value("document.getElementById('place').textContent") == "5 of 6"
        assert browser.value("document.getElementById('done').textContent") == "4 judged"
        browser.open(page.as_uri(), downloads)  # it was closed, and remembers
        assert browser.value("document.getElementById('done').textContent") == "4 judged"
        ids = browser.value("photos.map((photo) => [photo.prediction_id, photo.chosen])")
        browser.press("s")
        file = downloads / "labels.csv"
        deadline = time.monotonic() + 30
        while not file.is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [(row["prediction_id"], row["label"]) for row in rows] == [
        (ids[0][0], CLASSES[0]),
        (ids[1][0], CLASSES[3]),
        (ids[3][0], CLASSES[1]),
    ]
    assert [row["chosen"] for row in rows] == [ids[place][1] for place in (0, 1, 3)]
    assert {prediction_id for prediction_id, _ in ids} == made
    taken = clinic.book.import_file(file, "grader-1", datetime.now(UTC))
    assert (taken.taken, taken.refused) == (3, [])
    assert {label.chosen for label in clinic.book.read().current.values()} <= {CHOSEN, DRAWN}


def test_the_version_that_answered_draws_the_heatmap(
    registry: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry["MLFLOW_TRACKING_URI"])
    fetched = FetchedVersion.fetch(NAME, "1", tmp_path)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    drawn, nothing = heatmaps(fetched.folder, [PROJECT / "samples" / "retina.jpg", broken])
    assert drawn is not None
    assert drawn.startswith("iVBORw0KGgo")
    assert nothing is None
