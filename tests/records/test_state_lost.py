"""Files of the store lost or damaged in every way: named, kept, and no record is gone or counted twice for it."""

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as papq
import pytest

from eye_disease.records.ingest import ingest
from eye_disease.records.state_file import StateFileError
from eye_disease.records.storage import Storage
from eye_disease.records.store import RecordStore, StoreError
from tests.support.damage import DAMAGE, without_permission
from tests.support.logs import CLASSES, MODEL, NOON, append, minutes, record

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")
LATER = NOON + timedelta(hours=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / MODEL / "1"


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(Storage(str(tmp_path)), MODEL, "1")


def _ids(store: RecordStore) -> list[str]:
    return sorted(value for batch in store.read_batches(["prediction_id"]) for value in batch["prediction_id"].to_pylist())


def _ids_of(records: list[dict]) -> list[str]:
    return sorted(record["prediction_id"] for record in records)


@pytest.fixture
def written(folder: Path, store: RecordStore) -> list[dict]:
    """Twelve records: six in Parquet alone, four in Parquet and in a segment that is not closed, two in a segment alone."""
    closed = [record(n, NOON + minutes(n)) for n in range(6)]
    append(folder, *closed)
    still_open = [record(n, LATER, "p1") for n in range(4)]
    append(folder, *still_open)
    ingest(store, LATER)
    new = [record(n, LATER + minutes(20), "p1") for n in (4, 5)]
    append(folder, *new)
    assert [path.name for path in folder.glob("*.jsonl")] == ["20260301T14-p1.jsonl"]
    return [*closed, *still_open, *new]


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_the_state_of_ingest(
    folder: Path,
    store: RecordStore,
    written: list[dict],
    damage: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    damage(folder / "ingest.json")
    damaged = (folder / "ingest.json").read_bytes() if (folder / "ingest.json").exists() else None
    done = ingest(store, LATER + minutes(30))
    assert _ids(store) == _ids_of(written)
    assert (done.after.records, done.records, done.after.missing, done.after.classes) == (12, 2, 0, CLASSES)
    if damaged is not None:
        assert "ingest.json is damaged" in caplog.text
        assert (folder / "ingest.json.damaged").read_bytes() == damaged
    assert ingest(store, LATER + timedelta(days=2)).records == 0
    assert list(folder.glob("*.jsonl")) == []
    assert _ids(store) == _ids_of(written)


def test_what_a_state_of_a_later_release_has_beside_is_left_out(folder: Path, store: RecordStore, written: list[dict]) -> None:
    state = folder / "ingest.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"weather": "fine"}))
    assert ingest(store, LATER + minutes(30)).records == 2
    assert not (folder / "ingest.json.damaged").exists()


def test_a_state_of_the_release_before(folder: Path, store: RecordStore, written: list[dict]) -> None:
    state = folder / "ingest.json"
    later = ("format", "writing", "unexplained")
    state.write_text(json.dumps({name: value for name, value in json.loads(state.read_text()).items() if name not in later}))
    assert ingest(store, LATER + minutes(30)).records == 2
    assert _ids(store) == _ids_of(written)


@pytest.mark.parametrize("runs", [1, 3])
def test_a_state_from_a_backup_that_is_older_than_the_records(
    folder: Path, store: RecordStore, written: list[dict], runs: int, caplog: pytest.LogCaptureFixture
) -> None:
    old = (folder / "ingest.json").read_bytes()
    more = [record(n, LATER + timedelta(hours=1 + n), "p2") for n in range(runs)]
    for line in more:
        append(folder, line)
        ingest(store, LATER + timedelta(days=2))
    assert list(folder.glob("*.jsonl")) == []
    (folder / "ingest.json").write_bytes(old)
    ingest(store, LATER + timedelta(days=3))
    assert _ids(store) == _ids_of([*written, *more])
    assert "It is an older one" in caplog.text


def test_expired_records_are_no_loss_after_the_state_was_lost(folder: Path, store: RecordStore) -> None:
    append(folder, *(record(n) for n in range(3)))
    append(folder, *(record(n, NOON + timedelta(days=9)) for n in range(3, 6)))
    ingest(store, NOON + timedelta(days=10), keep_days=5)
    (folder / "ingest.json").unlink()
    append(folder, record(8, NOON + timedelta(days=10)))
    done = ingest(store, NOON + timedelta(days=10), keep_days=5)
    assert (done.records, done.after.missing) == (1, 2)


def test_a_store_without_state_goes_on_after_the_commit_that_the_job_knows(folder: Path, store: RecordStore) -> None:
    append(folder, record(0))
    ingest(store, LATER)
    for path in (folder / "ingest.json", *folder.rglob("*.parquet")):
        path.unlink()
    append(folder, record(1))
    assert ingest(store, LATER, seen_commit=7).after.commit == 8


def test_a_state_that_may_not_be_read_stops_this_version_and_is_named(
    folder: Path, store: RecordStore, written: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        without_permission(patched, "ingest.json")
        with pytest.raises(StateFileError, match=r"1/ingest\.json cannot be read \(Permission denied\)"):
            ingest(store, LATER)
    assert ingest(store, LATER + minutes(30)).records == 2
    assert _ids(store) == _ids_of(written)


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _one_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:1500] = bytes(1400)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.write_bytes(b""), _half, lambda path: path.write_bytes(b"garbage" * 999), _one_page],
    ids=["empty", "half", "garbage", "one page"],
)
def test_a_damaged_parquet_file_costs_only_itself(
    folder: Path, store: RecordStore, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    days = [NOON + timedelta(days=n) for n in range(3)]
    written = [record(n, day) for n, day in enumerate(days) for _ in range(1)]
    for line in written:
        append(folder, line)
    ingest(store, days[-1] + timedelta(hours=2))
    path = folder / "records" / "date=2026-03-02" / "00000001.parquet"
    damage(path)
    left = _ids_of([written[0], written[2]])
    assert _ids(store) == left
    assert f"{path} is damaged" in caplog.text
    assert (path.parent / "00000001.parquet.damaged").exists()
    (folder / "ingest.json").unlink()
    ingest(store, days[-1] + timedelta(hours=2))
    assert _ids(store) == left
    ingest(store, days[-1] + timedelta(days=9), keep_days=5)
    assert not list(folder.rglob("*.parquet*")), "what is set aside expires too"


def test_damage_is_seen_when_the_state_is_made_anew(folder: Path, store: RecordStore, written: list[dict]) -> None:
    first, second = sorted(folder.rglob("*.parquet"))[0], folder / "ingest.json"
    append(folder, record(0, NOON + timedelta(days=1), "p3"))
    ingest(store, NOON + timedelta(days=3))
    _half(first)
    second.unlink()
    ingest(store, NOON + timedelta(days=3))
    assert first.with_name(first.name + ".damaged").exists()
    assert len(_ids(store)) == 3


def test_a_parquet_file_that_may_not_be_read_is_no_damaged_one(
    folder: Path, store: RecordStore, written: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_file = papq.ParquetFile

    def refuse(source: object, *arguments: object, **options: object) -> papq.ParquetFile:
        if isinstance(source, str):
            raise PermissionError(13, "Permission denied", source)
        return open_file(source)

    with monkeypatch.context() as patched:
        patched.setattr("eye_disease.records.store.papq.ParquetFile", refuse)
        with pytest.raises(StoreError, match=r"00000001\.parquet cannot be read"):
            _ids(store)
    assert len(_ids(store)) == 10


def test_a_segment_that_may_not_be_read_waits_and_the_others_do_not(
    folder: Path, store: RecordStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written = [record(0), record(0, process="p1")]
    for line in written:
        append(folder, line)
    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
        without_permission(patched, "20260301T12-p0.jsonl")
        assert ingest(store, LATER).records == 1
    assert "20260301T12-p0.jsonl cannot be read" in caplog.text
    assert ingest(store, LATER).records == 1
    assert _ids(store) == _ids_of(written)
