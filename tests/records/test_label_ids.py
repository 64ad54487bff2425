"""Labels find their predictions in whatever form the id was written; times are those at which a label can have been given."""

import json
import logging
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as papq
import pytest

from eye_disease.records.ingest import ingest
from eye_disease.records.labels import FeedbackError, LabelBook
from eye_disease.records.storage import Storage
from eye_disease.records.store import RecordStore, find_stores
from eye_disease.verdict.realised import join
from tests.support.logs import MODEL, NOON, append, minutes, prediction_id, record

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")
LATER = NOON + timedelta(hours=3)


@pytest.fixture
def written(tmp_path: Path) -> list[dict]:
    records = [record(n, NOON + minutes(n)) for n in range(3)]
    append(tmp_path / MODEL / "1", *records)
    (store,) = find_stores(Storage(str(tmp_path)))
    ingest(store, LATER)
    return records


@pytest.fixture
def book(tmp_path: Path) -> LabelBook:
    return LabelBook(Storage(str(tmp_path)), MODEL)


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(Storage(str(tmp_path)), MODEL, "1")


FORMS = {
    "as it is": lambda one: one,
    "braces": lambda one: f"{{{one}}}",
    "upper case": str.upper,
    "braces and upper case": lambda one: f"{{{one.upper()}}}",
    "no dashes": lambda one: one.replace("-", ""),
    "urn": lambda one: f"urn:uuid:{one}",
    "blanks": lambda one: f"  {one}\t",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_an_id_joins_in_whatever_form_it_was_written(book: LabelBook, store: RecordStore, written: list[dict], form) -> None:  # noqa: ANN001
    done = book.add(form(written[0]["prediction_id"]), "cataract", "grader-1", LATER)
    assert (done.taken, done.waiting) == (1, [])
    joined = join(book.read(), [store])
    assert (joined.versions["1"].labelled, joined.waiting) == (1, 0)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_ids_that_an_earlier_release_has_kept_as_they_were_written(
    tmp_path: Path,
    book: LabelBook,
    store: RecordStore,
    written: list[dict],
    form,  # noqa: ANN001
) -> None:
    stored = {"prediction_id": form(written[0]["prediction_id"]), "label": "normal", "by": "x", "at": LATER.isoformat()}
    Storage(str(tmp_path)).write(f"{MODEL}/_labels/old.ndjson", json.dumps(stored).encode())
    assert join(book.read(), [store]).versions["1"].labelled == 1


def test_what_is_taken_counts_what_joins_and_the_rest_is_named(book: LabelBook, written: list[dict], tmp_path: Path) -> None:
    unknown = prediction_id(NOON + timedelta(days=400))
    file = tmp_path / "labels.csv"
    rows = [f"{{{written[0]['prediction_id'].upper()}}},normal", f"{unknown.upper()},normal", "17,normal"]
    file.write_text("\n".join(["prediction_id,label", *rows]))
    done = book.import_file(file, "grader-1", LATER)
    assert (done.taken, done.waiting) == (1, [unknown])
    assert len(done.refused) == 1
    assert len(book.read().current) == 2, "the label waits for its record"


@pytest.mark.parametrize("wrong", ["ffffffff-ffff-7fff-bfff-ffffffffffff", "{}", "{17}", None, 17])
def test_what_looks_like_an_id_and_is_none(book: LabelBook, written: list[dict], wrong: str) -> None:
    with pytest.raises(FeedbackError, match="Expected the UUID that the answer holds"):
        book.add(wrong, "normal", "grader-1", LATER)


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (f"{datetime.now(UTC) + timedelta(hours=9):%Y-%m-%dT%H:%M:%SZ}", "is in the future"),
        (f"{datetime.now(UTC) + timedelta(hours=9):%Y-%m-%d %H:%M}", "is in the future"),
        ("2099-01-01", "is in the future"),
        ("1970-01-01", "is too long ago"),
        ("1900-01-00", "is not a time"),
    ],
    ids=["in nine hours", "in nine hours, without a zone", "in decades", "the epoch", "day 0"],  # the same in every process
)
def test_a_time_at_which_no_label_can_have_been_given(
    book: LabelBook, written: list[dict], tmp_path: Path, at: str, said: str
) -> None:
    answer_id = written[0]["prediction_id"]
    file = tmp_path / "labels.csv"
    file.write_text(f"prediction_id,label,at\n{answer_id},normal,{at}\n{answer_id},glaucoma,2026-03-01T12:30:00-02:00\n")
    done = book.import_file(file, "grader-1", LATER)
    assert (done.taken, len(done.refused)) == (1, 1)
    assert said in done.refused[0]
    assert book.read().current[answer_id].label == "glaucoma"


def test_times_of_a_parquet_file(book: LabelBook, written: list[dict], tmp_path: Path) -> None:
    ids = [record["prediction_id"] for record in written[:2]]
    table = pa.table({"prediction_id": ids, "label": ["normal", "normal"], "at": [date(2026, 2, 1), date(2099, 1, 1)]})
    papq.write_table(table, tmp_path / "labels.parquet")
    done = book.import_file(tmp_path / "labels.parquet", "grader-1", LATER)
    assert (done.taken, len(done.refused)) == (1, 1)


def test_a_future_time_that_an_earlier_release_has_kept_does_not_outrank_a_correction(
    tmp_path: Path, book: LabelBook, written: list[dict]
) -> None:
    answer_id, path = written[0]["prediction_id"], tmp_path / MODEL / "_labels" / "old.ndjson"
    path.parent.mkdir()
    path.write_text(json.dumps({"prediction_id": answer_id, "label": "glaucoma", "by": "x", "at": "2099-01-01T00:00:00+00:00"}))
    os.utime(path, (LATER.timestamp(), LATER.timestamp()))
    assert book.read().current[answer_id].label == "glaucoma"
    book.add(answer_id, "normal", "grader-1", LATER + minutes(1))
    assert book.read().current[answer_id].label == "normal"


@pytest.mark.parametrize("junk", [b"", b"\xff\x00", b"[]", b'{"label": "normal"}', b'{"prediction_id": 5, "label": 1}'])
def test_of_a_damaged_file_the_labels_that_can_be_read_count(
    tmp_path: Path, book: LabelBook, written: list[dict], junk: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    ids = [record["prediction_id"] for record in written]
    for answer_id in ids:
        book.add(answer_id, "normal", "grader-1", LATER)
    files = sorted((tmp_path / MODEL / "_labels").iterdir())
    half = files[1].read_bytes()[:40]
    content = files[0].read_bytes() + junk + b"\n" + half
    files[0].write_bytes(content)
    with caplog.at_level(logging.ERROR):
        assert set(book.read().current) == set(ids)
    assert files[0].name in caplog.text
    assert (tmp_path / MODEL / "_labels" / f"{files[0].name}.damaged").read_bytes() == content
    caplog.clear()
    assert set(book.read().current) == set(ids)
    assert caplog.text == "", "once"


def test_a_version_whose_store_is_damaged_does_not_stop_the_labels_of_the_others(
    tmp_path: Path, book: LabelBook, written: list[dict], caplog: pytest.LogCaptureFixture
) -> None:
    append(tmp_path / MODEL / "2", record(0, model_version="2"))
    (tmp_path / MODEL / "2" / "ingest.json").write_text("{")
    with caplog.at_level(logging.ERROR):
        assert book.add(written[0]["prediction_id"], "normal", "grader-1", LATER).taken == 1
    assert "version 2 is left out" in caplog.text
