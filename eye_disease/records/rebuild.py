"""The state of a store whose file is lost, damaged or older than its records, as far as the records themselves tell it."""

import logging

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as papq

from eye_disease.records.ingest_state import IngestState, Sequences
from eye_disease.records.lines import record_schema
from eye_disease.records.store import Part, RecordStore

_logger = logging.getLogger(__name__)
_ROWS = 65_536
_KEYS = pa.schema({"process_id": pa.string(), "sequence": pa.int64(), "lost_records": pa.int64()})


def current_state(store: RecordStore, seen_commit: int) -> IngestState:
    """What ingest resumes from, with the files of a killed run removed.

    seen_commit: the last commit that the caller knows of. Raises StateFileError, StoreError, OSError.
    """
    state = store.take_state()
    newest = max((part.commit for kind in ("records", "rejected") for part in store.all_parts(kind)), default=0)
    if state is None and newest == 0:
        return IngestState(commit=seen_commit)
    if state is not None and newest <= max(state.commit, state.writing):
        if state.writing > state.commit:
            store.remove_uncommitted(state.writing)
        state.writing = 0
        return state
    if state is not None:
        _logger.error(
            "%s version %s: ingest.json knows of %d commits, but there are records of commit %d. It is an older one, and is "
            "rebuilt from the records, of which none is lost.",
            store.model,
            store.version,
            state.commit,
            newest,
        )
    rebuilt = _rebuild(store, max(newest, seen_commit))
    store.save(rebuilt)
    return rebuilt


def _rebuild(store: RecordStore, commit: int) -> IngestState:
    """Segments are read again from their beginning: the sequences tell which of their records are held."""
    state, sequences = IngestState(commit=commit), Sequences()
    for part in sorted(store.all_parts("records"), key=lambda part: (part.commit, part.day)):
        state.classes = state.classes or _classes(store, part)
        for batch in store.read_part(part, _KEYS, _ROWS):
            for process in batch["process_id"].unique().to_pylist():
                rows = batch.filter(pc.equal(batch["process_id"], process))
                sequences.admit(process, rows["sequence"].to_numpy())
            state.records += batch.num_rows
            state.lost_records += pc.sum(batch["lost_records"]).as_py() or 0
    state.sequences = sequences.as_json()
    state.unexplained = sequences.missing()
    return state


def _classes(store: RecordStore, part: Part) -> tuple[str, ...]:
    """Of a file's columns; empty if it is damaged, which is seen when its records are read."""
    try:
        with papq.ParquetFile(store.storage.full(part.path), filesystem=store.storage.filesystem) as file:
            names = file.schema_arrow.names
    except (pa.ArrowException, OSError):
        return ()
    fixed = set(record_schema(()).names)
    return tuple(name.removeprefix("prob_") for name in names if name.startswith("prob_") and name not in fixed)
