"""Every record enters the store once, whatever is wrong with the log and whenever a run is killed."""

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from eye_disease.records import ingest as ingest_module
from eye_disease.records.ingest import ingest
from eye_disease.records.ingest_state import Sequences
from eye_disease.records.lines import REASONS, find_classes, parse, record_schema
from eye_disease.records.storage import Storage, StorageError
from eye_disease.records.store import RecordStore, StoreError, find_stores
from model_code.inference_log import InferenceLog
from model_code.schema import SCHEMA_VERSION
from tests.support.logs import CLASSES, MODEL, NOON, append, failed, minutes, record

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")
LATER = NOON + timedelta(hours=2)
"""When the segment of NOON's hour is closed."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / MODEL / "1"


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(Storage(str(tmp_path)), MODEL, "1")


def _ids(store: RecordStore, **wanted: Any) -> list[str]:
    return [value for batch in store.read_batches(["prediction_id"], **wanted) for value in batch["prediction_id"].to_pylist()]


def _ids_of(records: list[dict]) -> list[str]:
    return [record["prediction_id"] for record in records]


def test_a_closed_segment_becomes_parquet_with_every_field(folder: Path, store: RecordStore) -> None:
    written = [record(0, site="clinic-a", embedding_16=0.25), failed(1), record(2, NOON + minutes(5))]
    segment = append(folder, *written)
    done = ingest(store, LATER)
    assert (done.records, done.rejected, done.problems()) == (3, {}, [])
    assert not segment.exists()
    (batch,) = store.read_batches(record_schema(CLASSES).names)
    expected = [record | {"timestamp": datetime.fromisoformat(record["timestamp"])} for record in written]
    assert batch.to_pylist() == expected
    (part,) = store.parts()
    assert part.path == f"{MODEL}/1/records/date=2026-03-01/00000001.parquet"
    assert (folder / "records/date=2026-03-01/00000001.parquet").stat().st_mode & 0o007 == 0


def test_what_the_served_model_writes_is_read(tmp_path: Path, store: RecordStore, folder: Path) -> None:
    log = InferenceLog(folder, required=True)
    own = ("timestamp", "process_id", "sequence", "lost_records")
    written = [{name: value for name, value in record(n).items() if name not in own} for n in range(5)]
    log.append(written[:3])
    log.append(written[3:])
    done = ingest(store, datetime.now(UTC))
    assert (done.records, done.problems()) == (5, [])
    assert _ids(store) == _ids_of(written)


def test_an_open_segment_is_read_as_it_grows(folder: Path, store: RecordStore) -> None:
    first, second = [record(n) for n in range(3)], [record(n) for n in range(3, 5)]
    segment = append(folder, *first)
    ingest(store, NOON + minutes(10))
    assert segment.exists()
    cursor = store.state().commit
    with segment.open("ab") as file:
        file.write(json.dumps(second[0]).encode()[:100])
    assert ingest(store, NOON + minutes(20)).records == 0
    with segment.open("ab") as file:
        file.write(json.dumps(second[0]).encode()[100:] + b"\n" + json.dumps(second[1]).encode() + b"\n")
    assert ingest(store, NOON + minutes(30)).records == 2
    assert _ids(store, after=cursor) == _ids_of(second)
    assert _ids(store) == _ids_of(first + second)
    assert ingest(store, LATER).records == 0
    assert not segment.exists()
    assert _ids(store) == _ids_of(first + second)


def test_a_run_without_news_writes_nothing(folder: Path, store: RecordStore) -> None:
    append(folder, record(0))
    ingest(store, NOON)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    ingest(store, NOON)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_an_empty_log(tmp_path: Path, store: RecordStore) -> None:
    assert find_stores(Storage(str(tmp_path / "nowhere"))) == []
    done = ingest(store, NOON)
    assert (done.records, done.problems(), _ids(store)) == (0, [], [])


def test_an_empty_segment_goes_when_it_is_closed(folder: Path, store: RecordStore) -> None:
    folder.mkdir(parents=True)
    (folder / "20260301T12-p0.jsonl").touch()
    ingest(store, LATER)
    assert list(folder.glob("*.jsonl")) == []


def test_every_version_has_a_store_of_its_own(tmp_path: Path) -> None:
    for model, version in (("a", "1"), ("a", "2"), ("b", "bundled")):
        append(tmp_path / model / version, record(0, model_version=version))
    (tmp_path / "a" / "_labels").mkdir()
    stores = find_stores(Storage(str(tmp_path)))
    assert [(store.model, store.version) for store in stores] == [("a", "1"), ("a", "2"), ("b", "bundled")]
    assert [ingest(store, LATER).records for store in stores] == [1, 1, 1]


def test_lines_that_are_no_records_are_set_aside_and_their_neighbours_kept(
    folder: Path, store: RecordStore, caplog: pytest.LogCaptureFixture
) -> None:
    good = [record(n) for n in range(3)]
    lines = {
        b"\x00\x00\x00": "not_json",
        b'{"half": ': "not_json",
        b"[1, 2]": "not_json",
        json.dumps(record(3, schema_version=SCHEMA_VERSION + 1)).encode(): "schema_version",
        json.dumps({"hello": 1}).encode(): "schema_version",
        json.dumps(record(4, classes=("a", "b"))).encode(): "classes",
        json.dumps(record(5) | {"sequence": "5"}).encode(): "malformed",
        json.dumps(record(6, prediction_id=None)).encode(): "malformed",
        json.dumps(record(7, timestamp="yesterday")).encode(): "malformed",
        json.dumps(record(8, confidence=float("nan"))).encode(): "malformed",
        json.dumps(record(8) | {"sequence": 2**70}).encode(): "malformed",
        json.dumps(record(8, confidence=10**400)).encode(): "malformed",
        json.dumps(record(9, canary=1)).encode(): "malformed",
        b'{"image_id": "\xff"}': "not_json",
    }
    segment = append(folder, good[0])
    with segment.open("ab") as file:
        for line in lines:
            file.write(line + b"\n" + b"\n")
    append(folder, *good[1:])
    with caplog.at_level(logging.WARNING):
        done = ingest(store, NOON)
    counts = {reason: list(lines.values()).count(reason) for reason in REASONS if reason != "torn"}
    assert done.rejected == counts
    assert _ids(store) == _ids_of(good)
    stored = [json.loads(line) for line in (folder / "rejected/date=2026-03-01/00000001.ndjson").read_text().splitlines()]
    assert [(line["segment"], line["reason"]) for line in stored] == [(segment.name, reason) for reason in lines.values()]
    assert json.loads(stored[3]["line"]) == json.loads(list(lines)[3])
    assert f"{MODEL} version 1: 2 lines set aside: written by another release" in caplog.text
    assert ingest(store, LATER).rejected == {}


def test_a_torn_end_is_set_aside_when_the_segment_is_closed(folder: Path, store: RecordStore) -> None:
    whole, torn = record(0), json.dumps(record(1)).encode()
    segment = append(folder, whole)
    with segment.open("ab") as file:
        file.write(torn[: len(torn) // 2])
    assert ingest(store, NOON).rejected == {}
    done = ingest(store, LATER)
    assert done.rejected == {"torn": 1}
    assert not segment.exists()
    assert _ids(store) == _ids_of([whole])


def test_a_whole_record_without_its_line_end_counts_once_the_segment_is_closed(folder: Path, store: RecordStore) -> None:
    written = [record(0), record(1)]
    segment = append(folder, *written)
    segment.write_bytes(segment.read_bytes()[:-1])
    assert [ingest(store, now).records for now in (NOON, LATER)] == [1, 1]
    assert _ids(store) == _ids_of(written)


def test_a_line_longer_than_what_is_read_at_a_time(folder: Path, store: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a power failure, when a file's end may be all zeros."""
    monkeypatch.setattr(ingest_module, "_CHUNK_BYTES", 4096)
    segment = append(folder, record(0), record(1))
    with segment.open("ab") as file:
        file.write(bytes(10_000))
    done = ingest(store, LATER)
    assert (done.records, set(done.rejected)) == (2, {"torn"})


def test_an_unknown_schema_version_alone_gives_no_records(folder: Path, store: RecordStore) -> None:
    append(folder, *(record(n, schema_version=99) for n in range(3)))
    done = ingest(store, LATER)
    assert (done.records, done.rejected, _ids(store)) == (0, {"schema_version": 3}, [])
    append(folder, record(3))
    assert ingest(store, NOON).records == 1


def test_a_model_with_other_classes(folder: Path, store: RecordStore) -> None:
    append(folder, failed(0) | record(0, classes=("drusen", "myopia")), record(1, classes=("drusen", "myopia")))
    segment = folder / "20260301T12-p0.jsonl"
    only_own = [json.loads(line) for line in segment.read_text().splitlines()]
    segment.write_text(
        "".join(json.dumps({k: v for k, v in record.items() if k != "prob_normal"}) + "\n" for record in only_own[1:])
    )
    ingest(store, LATER)
    assert store.state().classes == ("drusen", "myopia")
    (batch,) = store.read_batches(["prob_drusen", "prob_myopia", "predicted_class"])
    assert batch.to_pylist() == [{"prob_drusen": 0.7, "prob_myopia": 0.3, "predicted_class": "drusen"}]


def test_half_a_surrogate_pair_is_kept_as_a_replacement(folder: Path, store: RecordStore) -> None:
    append(folder, record(0, image_id="eye-\ud800"))
    ingest(store, LATER)
    (batch,) = store.read_batches(["image_id"])
    assert batch.to_pylist() == [{"image_id": "eye-\ufffd"}]


def test_fields_of_a_later_release_are_left_out_and_missing_ones_null(folder: Path, store: RecordStore) -> None:
    newer = record(0, camera="x")
    del newer["site"]
    append(folder, newer, record(1))
    assert ingest(store, LATER).records == 2


def test_both_ways_to_parse_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [record(0, site="ã"), failed(1), record(2, confidence=1, canary=True)]
    block = "".join(json.dumps(record) + "\n" for record in records).encode()
    assert find_classes(block) == CLASSES
    fast, rejected = parse(block, CLASSES)
    slow, also_rejected = parse(block + b"junk\n", CLASSES)
    assert fast.equals(slow)
    assert (rejected, [line.reason for line in also_rejected]) == ([], ["not_json"])


def test_gaps_and_losses_that_the_model_tells_of(folder: Path, store: RecordStore) -> None:
    append(folder, record(2), record(3), record(7, lost_records=3), record(8))
    append(folder, record(0, process="p1"), record(1, process="p1"))
    done = ingest(store, NOON)
    assert (done.after.missing, done.after.lost_records) == (5, 3)
    assert done.problems() == ["5 records are missing from a process's sequence; 3 of them could not be written."]
    append(folder, record(0), segment="20260301T11-p0.jsonl")
    assert ingest(store, NOON).after.missing == 4


def test_a_segment_that_comes_back_does_not_count_twice(folder: Path, store: RecordStore) -> None:
    """As when another tool copies the log's folder again."""
    written = [record(n) for n in range(4)]
    segment = append(folder, *written)
    content = segment.read_bytes()
    ingest(store, LATER)
    segment.write_bytes(content)
    done = ingest(store, LATER)
    assert (done.records, done.after.duplicates) == (0, 4)
    assert _ids(store) == _ids_of(written)
    assert not segment.exists()


def test_a_clock_set_back_after_its_segment_was_removed_loses_nothing(folder: Path, store: RecordStore) -> None:
    """The process makes a file of the same name again, longer than the one before."""
    append(folder, record(0), record(1))
    append(folder, record(2, NOON + minutes(60)))
    ingest(store, LATER)
    again = [record(n, NOON + minutes(1)) for n in range(3, 7)]
    append(folder, *again)
    done = ingest(store, LATER)
    assert (done.records, done.after.missing) == (4, 0)
    assert done.after.duplicates == 0


def test_a_segment_that_was_cut_and_written_on_is_read_again(folder: Path, store: RecordStore) -> None:
    segment = append(folder, record(0), record(1), record(2))
    ingest(store, NOON)
    segment.write_bytes(segment.read_bytes()[:-2000])
    last = segment.read_bytes().rfind(b"\n") + 1
    segment.write_bytes(segment.read_bytes()[:last])
    append(folder, record(3, note="x" * 5000), record(4))
    done = ingest(store, NOON)
    assert done.records == 2
    assert sorted(value for batch in store.read_batches(["sequence"]) for value in batch["sequence"].to_pylist()) == [
        0,
        1,
        2,
        3,
        4,
    ]


def test_clock_jumps_are_counted_and_cost_no_record(folder: Path, store: RecordStore) -> None:
    times = [NOON, NOON + minutes(30), NOON + minutes(10), NOON + minutes(29), NOON + minutes(31)]
    append(folder, *(record(n, time) for n, time in enumerate(times)))
    append(folder, record(0, NOON - timedelta(days=20), process="p1"), segment="20260301T12-p1.jsonl")
    append(folder, record(0, NOON, "p2"), record(1, NOON - timedelta(milliseconds=200) + minutes(0.01), "p2"))
    done = ingest(store, LATER)
    assert done.after.clock_jumps == 3
    assert "3 records have a time earlier" in done.problems()[0]
    assert len(_ids(store)) == 8
    assert {f"{part.day}" for part in store.parts()} == {"2026-03-01", "2026-02-09"}


def test_a_window_is_read_by_time_and_without_canaries(folder: Path, store: RecordStore) -> None:
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    early, probe, late = record(0, midnight - minutes(1)), record(1, midnight - minutes(1), canary=True), record(2, midnight)
    append(folder, early, probe)
    append(folder, late)
    ingest(store, midnight + timedelta(hours=3))
    assert _ids(store) == _ids_of([early, late])
    assert _ids(store, canary=True) == _ids_of([early, probe, late])
    assert _ids(store, start=midnight) == _ids_of([late])
    assert _ids(store, end=midnight) == _ids_of([early])
    assert _ids(store, start=midnight - minutes(2), end=midnight + minutes(1)) == _ids_of([early, late])
    with pytest.raises(KeyError, match="has no column"):
        list(store.read_batches(["nonsense"]))


def test_batches_are_bounded(folder: Path, store: RecordStore) -> None:
    append(folder, *(record(n) for n in range(100)))
    ingest(store, LATER)
    assert [batch.num_rows for batch in store.read_batches(["confidence"], rows=30)] == [30, 30, 30, 10]


def test_retention_removes_whole_days(folder: Path, store: RecordStore) -> None:
    days = [NOON - timedelta(days=age) for age in (3, 2, 1, 0)]
    written = [record(n, day) for n, day in enumerate(days)]
    for line in written:
        append(folder, line)
    (folder / "20260226T12-p9.jsonl").write_text("junk\n")
    ingest(store, days[0], keep_days=2)
    assert list((folder / "rejected").rglob("*.ndjson"))
    ingest(store, LATER, keep_days=2)
    assert _ids(store) == _ids_of(written[1:])
    assert not list((folder / "rejected").rglob("*.ndjson"))
    assert store.state().records == 4


def test_an_old_segment_is_not_taken_in_again_after_its_records_have_expired(folder: Path, store: RecordStore) -> None:
    segment = append(folder, record(0))
    content = segment.read_bytes()
    ingest(store, NOON + timedelta(days=9), keep_days=2)
    segment.write_bytes(content)
    assert ingest(store, NOON + timedelta(days=9), keep_days=2).records == 0


def test_other_files_are_left_alone(folder: Path, store: RecordStore) -> None:
    folder.mkdir(parents=True)
    for name in ("notes.txt", "20260301-p0.jsonl", "x.jsonl"):
        (folder / name).write_text("mine\n")
    ingest(store, LATER)
    assert {path.name for path in folder.iterdir()} == {"notes.txt", "20260301-p0.jsonl", "x.jsonl"}


def test_a_damaged_state_is_explained_to_those_who_only_read(folder: Path, store: RecordStore) -> None:
    append(folder, record(0))
    (folder / "ingest.json").write_text("{")
    with pytest.raises(StoreError, match=r"ingest\.json is damaged .* `drift_job\.py run` rebuilds it"):
        store.state()
    assert (folder / "ingest.json").exists()


def test_an_unknown_kind_of_url_is_explained() -> None:
    with pytest.raises(StorageError, match=r"INFERENCE_LOG_DIR='foo://x' cannot be opened .* s3://bucket/logs"):
        Storage("foo://x")


def test_on_s3(s3_bucket: str) -> None:
    storage = Storage(f"{s3_bucket}/logs")
    assert find_stores(storage) == []
    first, second = [record(n) for n in range(3)], [record(n) for n in range(3, 5)]
    segment = f"{MODEL}/1/20260301T12-p0.jsonl"

    def lines(records: list[dict]) -> bytes:
        return "".join(json.dumps(record) + "\n" for record in records).encode()

    storage.write(segment, lines(first))
    (store,) = find_stores(storage)
    assert ingest(store, NOON).records == 3
    storage.write(segment, lines(first + second) + b"torn")
    cursor = store.state().commit
    done = ingest(store, LATER, keep_days=30)
    assert (done.records, done.rejected) == (2, {"torn": 1})
    assert _ids(store) == _ids_of(first + second)
    assert _ids(store, after=cursor) == _ids_of(second)
    assert list(storage.files(f"{MODEL}/1")) == ["ingest.json"]
    storage.write(segment, lines(first))
    assert ingest(store, LATER).records == 0
    ingest(store, LATER + timedelta(days=99), keep_days=30)
    assert _ids(store) == []


def test_ranges_of_sequence_numbers_against_a_plain_set() -> None:
    import numpy as np

    chance = np.random.default_rng(3)
    for _ in range(200):
        sequences, plain = Sequences(), set()
        for _ in range(chance.integers(1, 8)):
            numbers = chance.integers(0, 30, chance.integers(1, 12))
            expected = [n not in plain and n not in numbers[:i] for i, n in enumerate(numbers)]
            assert sequences.admit("p", numbers).tolist() == expected
            plain |= set(numbers.tolist())
            assert sequences.missing() == max(plain) + 1 - len(plain)
            sequences = Sequences(json.loads(json.dumps(sequences.as_json())))


def test_the_columns_are_those_of_the_record() -> None:
    assert record_schema(CLASSES).names == list(record(0))
    assert record_schema(("a", "b")).field("prob_b").type == pa.float64()
