"""Labels come late, twice, and against each other; what they say of a version's performance."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as papq
import pytest
from openpyxl import Workbook

from eye_disease.evaluation.shares import Share
from eye_disease.records.ingest import ingest
from eye_disease.records.labels import FeedbackError, Imported, Label, LabelBook, Labels, time_of
from eye_disease.records.storage import Storage
from eye_disease.records.store import RecordStore, find_stores
from eye_disease.verdict.realised import join, performance_of
from tests.support.logs import CLASSES, MODEL, NOON, append, failed, minutes, prediction_id, record

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")
LATER = NOON + timedelta(hours=3)


@pytest.fixture
def written(tmp_path: Path) -> list[dict]:
    """Six taken in: four answered by version 1 (cataract, 0.7), one error, one answered by version 2."""
    records = [record(n, NOON + minutes(n)) for n in range(4)] + [failed(4)]
    append(tmp_path / MODEL / "1", *records)
    other = record(0, model_version="2")
    append(tmp_path / MODEL / "2", other)
    for store in find_stores(Storage(str(tmp_path))):
        ingest(store, LATER)
    return [*records, other]


@pytest.fixture
def book(tmp_path: Path) -> LabelBook:
    return LabelBook(Storage(str(tmp_path)), MODEL)


@pytest.fixture
def stores(tmp_path: Path, written: list[dict]) -> list[RecordStore]:
    return find_stores(Storage(str(tmp_path)))


def _id(answer: dict) -> str:
    return answer["prediction_id"]


def test_labels_are_joined_to_the_version_that_answered(
    book: LabelBook, written: list[dict], stores: list[RecordStore]
) -> None:
    for answer, label in zip(written, ("cataract", "cataract", "glaucoma", "cataract", "normal", "normal"), strict=True):
        book.add(_id(answer), label, "specialist-1", LATER)
    joined = join(book.read(), stores)
    first = joined.versions["1"]
    assert (first.labelled, first.correct, first.unanswered, joined.waiting) == (4, 3, 1, 0)
    assert (first.accuracy.value, first.accuracy.n) == (0.75, 4)
    assert {name: (share.value, share.n) for name, share in first.recall.items()} == {
        "cataract": (1.0, 3),
        "glaucoma": (0.0, 1),
    }
    assert first.calibration_error == pytest.approx(0.05)
    assert joined.versions["2"].accuracy.value == 0.0


def test_a_label_before_its_record_waits(tmp_path: Path, book: LabelBook, stores: list[RecordStore]) -> None:
    late = record(9, NOON + timedelta(hours=5))
    book.add(_id(late), "cataract", "specialist-1", LATER)
    assert (join(book.read(), stores).versions, join(book.read(), stores).waiting) == ({}, 1)
    append(tmp_path / MODEL / "1", late)
    ingest(stores[0], LATER + timedelta(hours=9))
    joined = join(book.read(), stores)
    assert (joined.versions["1"].labelled, joined.waiting) == (1, 0)


def test_a_window_takes_the_predictions_made_in_it(book: LabelBook, written: list[dict], stores: list[RecordStore]) -> None:
    for answer in written[:4]:
        book.add(_id(answer), "cataract", "specialist-1", LATER)
    joined = join(book.read(), stores, NOON + minutes(1), NOON + minutes(3))
    assert (joined.versions["1"].labelled, joined.waiting) == (2, 0)
    assert join(book.read(), stores, LATER).versions == {}


def test_labels_of_errors_alone_give_no_figures(book: LabelBook, written: list[dict], stores: list[RecordStore]) -> None:
    book.add(_id(written[4]), "normal", "specialist-1", LATER)
    realised = join(book.read(), stores).versions["1"]
    assert (realised.labelled, realised.accuracy, realised.recall, realised.calibration_error) == (0, None, {}, None)
    assert realised.unanswered == 1


def test_reported_answers_are_counted_by_themselves() -> None:
    """Six reported, one of them wrong; two labels of a disease, one of which was reported as healthy."""
    answered = ["normal"] * 5 + ["glaucoma", "glaucoma", "normal"]
    labels = ["normal"] * 4 + ["cataract", "glaucoma", "normal", "normal"]
    decisions = ["report"] * 6 + ["review", "retake"]
    columns = {"predicted_class": answered, "confidence": [0.9] * 8, "decision": decisions, "label": labels}
    performance = performance_of(pa.table(columns))
    assert performance.error_among_reported == Share.exact(np.arange(6) == 0)
    assert performance.missed == Share.exact(np.array([True, False]))
    held_back = performance_of(pa.table(columns | {"decision": ["review"] * 8}))
    assert (held_back.error_among_reported, held_back.missed.value) == (None, 0.0)
    others = performance_of(pa.table(columns | {"predicted_class": ["b"] * 8, "label": ["a"] * 8}))
    assert others.missed is None, "a model without a healthy class misses nothing"


def test_the_same_label_again_changes_nothing(tmp_path: Path, book: LabelBook, written: list[dict]) -> None:
    book.add(_id(written[0]), "normal", "specialist-1", LATER)
    before = sorted(path.name for path in (tmp_path / MODEL / "_labels").iterdir())
    book.add(_id(written[0]), "normal", "specialist-1", LATER)
    assert sorted(path.name for path in (tmp_path / MODEL / "_labels").iterdir()) == before
    book.add(_id(written[0]), "normal", "specialist-2", LATER + minutes(1))
    labels = book.read()
    assert (len(labels.current), labels.repeated, labels.contradicted) == (1, 1, 0)


def test_of_labels_that_contradict_the_latest_counts_whatever_order_they_come_in(book: LabelBook, written: list[dict]) -> None:
    book.add(_id(written[0]), "glaucoma", "specialist-2", LATER + minutes(5))
    book.add(_id(written[0]), "normal", "specialist-1", LATER)
    book.add(_id(written[1]), "normal", "specialist-1", LATER)
    labels = book.read()
    assert labels.current[_id(written[0])].label == "glaucoma"
    assert (labels.repeated, labels.contradicted) == (0, 1)


def test_a_label_that_is_taken_back_and_given_again_is_one_contradiction() -> None:
    labels = Labels.of(Label("x", name, "s", NOON + minutes(n)) for n, name in enumerate("abab"))
    assert (labels.current["x"].label, labels.contradicted, labels.repeated) == ("b", 1, 0)


def test_an_unknown_class_is_refused_and_the_allowed_are_named(book: LabelBook, written: list[dict]) -> None:
    with pytest.raises(
        FeedbackError, match=r"label=.Cataract. is not a class .* cataract, diabetic_retinopathy, glaucoma, normal"
    ):
        book.add(_id(written[0]), "Cataract", "specialist-1", LATER)
    assert book.read().current == {}


@pytest.mark.parametrize("wrong", ["", "17", "4f5c1f0e-0000-4000-8000-000000000000", "visit-17-left"])
def test_what_is_no_prediction_id_is_refused(book: LabelBook, written: list[dict], wrong: str) -> None:
    with pytest.raises(FeedbackError, match="Expected the UUID that the answer holds"):
        book.add(wrong, "normal", "specialist-1", LATER)


def test_without_records_the_classes_are_not_known(book: LabelBook) -> None:
    with pytest.raises(FeedbackError, match=r"classes of eye-disease-classifier are not known.*drift_job\.py run"):
        book.add(prediction_id(NOON), "normal", "specialist-1", LATER)


def test_a_csv_file_is_imported_once(book: LabelBook, written: list[dict], tmp_path: Path) -> None:
    rows = [f"{_id(written[0])},normal,,", f"{_id(written[1]).upper()}, glaucoma ,specialist-2,2026-03-04T10:00:00+02:00"]
    file = tmp_path / "labels.csv"
    file.write_text("prediction_id,label,by,at\n" + "\n".join(rows) + "\n")
    assert [book.import_file(file, "importer", LATER) for _ in range(2)] == [Imported(2, [])] * 2
    labels = book.read()
    assert labels.repeated == 0
    assert labels.current[_id(written[0])] == Label(_id(written[0]), "normal", "importer", LATER)
    assert labels.current[_id(written[1])].at == datetime(2026, 3, 4, 8, tzinfo=UTC)
    assert (labels.current[_id(written[1])].by, labels.current[_id(written[1])].label) == ("specialist-2", "glaucoma")


def test_a_parquet_file_is_imported(book: LabelBook, written: list[dict], tmp_path: Path) -> None:
    times = [datetime(2026, 3, 4, 8, tzinfo=UTC), None]
    table = pa.table({"label": ["normal", "glaucoma"], "prediction_id": [_id(record) for record in written[:2]], "at": times})
    papq.write_table(table, tmp_path / "labels.parquet")
    assert book.import_file(tmp_path / "labels.parquet", "importer", LATER) == Imported(2, [])
    assert [book.read().current[_id(record)].at for record in written[:2]] == [times[0], LATER]


def test_a_wrong_row_costs_itself_and_is_listed(book: LabelBook, written: list[dict], tmp_path: Path) -> None:
    good = [f"{_id(written[0])};normal;2026-03-04;", f"{_id(written[3])};glaucoma;;"]
    wrong = ["17;normal;", f"{_id(written[1])};drusen;", f"{_id(written[1])};;", f"{_id(written[2])};normal;yesterday"]
    file = tmp_path / "labels.csv"
    rows = [" Prediction_ID ; LABEL;At;", good[0], *wrong, f"{_id(written[2])};normal;;;surplus", good[1], ";;;"]
    file.write_bytes("\r\n".join(rows).encode("utf-16"))
    done = book.import_file(file, "importer", LATER)
    assert done.taken == 2
    starts = (
        "line 3: prediction_id='17'",
        "line 4: label='drusen'",
        "line 5: label=''",
        "line 6: at='yesterday'",
        "line 7: has 5",
    )
    assert len(done.refused) == len(starts)
    assert all(line.startswith(start) for line, start in zip(done.refused, starts, strict=True))
    assert {answer_id: label.label for answer_id, label in book.read().current.items()} == {
        _id(written[0]): "normal",
        _id(written[3]): "glaucoma",
    }


def test_a_file_of_wrong_rows_only_is_refused(book: LabelBook, written: list[dict], tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("prediction_id,label\n" + "17,normal\n" * 7)
    with pytest.raises(FeedbackError, match=r"labels.csv: no row can be taken. line 2: prediction_id='17'.* and 2 more"):
        book.import_file(tmp_path / "labels.csv", "importer", LATER)
    assert book.read().current == {}


def test_a_workbook_is_imported(book: LabelBook, written: list[dict], tmp_path: Path) -> None:
    (made := Workbook()).active.append(["prediction_id", "label", "at"])
    made.active.append([_id(written[0]), "glaucoma", datetime(2026, 3, 4, 8)])
    made.save(tmp_path / "labels.xlsx")
    assert book.import_file(tmp_path / "labels.xlsx", "importer", LATER) == Imported(1, [])
    assert book.read().current[_id(written[0])].at == datetime(2026, 3, 4, 8, tzinfo=UTC)


def test_files_that_hold_no_labels_are_explained(book: LabelBook, written: list[dict], tmp_path: Path) -> None:
    cases = {
        "labels.txt": (b"x", r"lacks the columns \['label', 'prediction_id'\]"),
        "a.csv": (b"id,label\n1,2\n", "prediction_id"),
    }
    cases |= {"b.parquet": (b"junk", "lacks"), "c.csv": (b"", "is empty"), "d.parquet": (b"PAR1junk", "cannot be read")}
    for name, (content, explanation) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FeedbackError, match=explanation) as caught:
            book.import_file(tmp_path / name, "importer", LATER)
        assert name in str(caught.value)
    with pytest.raises(FeedbackError, match="is not a file"):
        book.import_file(tmp_path / "nowhere.csv", "importer", LATER)


def test_labels_on_s3(s3_bucket: str) -> None:
    storage = Storage(f"{s3_bucket}/logs")
    answer = record(0)
    storage.write(f"{MODEL}/1/20260301T12-p0.jsonl", json.dumps(answer).encode() + b"\n")
    (store,) = find_stores(storage)
    ingest(store, LATER)
    book = LabelBook(storage, MODEL)
    book.add(_id(answer), CLASSES[0], "specialist-1", LATER)
    assert join(book.read(), find_stores(storage)).versions["1"].accuracy.value == 1.0


def test_the_time_in_an_id() -> None:
    assert time_of(prediction_id(NOON + minutes(1.5))) == NOON + minutes(1.5)
