"""Folders of a log that somebody has copied: their records name the folder that they come from."""

import json

from eye_disease.records.state_file import StateFileError
from eye_disease.records.store import RecordStore, StoreError

_FIRST_BYTES = 65_536


def original_of(store: RecordStore) -> tuple[str, str]:
    """(model, version) that the store's first record names; its own where there is none that can be read."""
    try:
        return _in_segments(store) or _in_parquet(store) or (store.model, store.version)
    except (StoreError, StateFileError, OSError):  # ingest names it
        return store.model, store.version


def _in_segments(store: RecordStore) -> tuple[str, str] | None:
    for name in store.storage.files(store.folder):
        if name.endswith(".jsonl"):
            line = store.storage.read(f"{store.folder}/{name}", 0, _FIRST_BYTES).partition(b"\n")[0]
            try:
                record = json.loads(line)
                return str(record["model_name"]), str(record["model_version"])
            except (ValueError, KeyError, TypeError):  # torn, or no record
                continue
    return None


def _in_parquet(store: RecordStore) -> tuple[str, str] | None:
    snapshot = store.snapshot()
    for batch in snapshot.read_batches(["model_name", "model_version"], canary=True, rows=1) if snapshot.classes else ():
        model, version = batch["model_name"][0].as_py(), batch["model_version"][0].as_py()
        if model is not None and version is not None:  # the version of an error is not known
            return model, version
    return None
