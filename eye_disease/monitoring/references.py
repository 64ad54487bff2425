"""Which reference a version is judged against: that of its package, or a production window somebody has named."""

import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import pyarrow as pa

from eye_disease.common.errors import UserError
from eye_disease.monitoring.package_cache import Packages
from eye_disease.profiles.layout import Layout
from eye_disease.profiles.profile import profile_columns
from eye_disease.profiles.reference import REFERENCE_FILE, Reference
from eye_disease.records.state_file import StateFileError, set_aside
from eye_disease.records.storage import Storage
from eye_disease.records.store import RecordStore, StoreSnapshot

_logger = logging.getLogger(__name__)


class NoReferenceError(UserError):
    """A reference that cannot be had; the message says why."""


@dataclass(frozen=True)
class ProductionWindow:
    """A span of production data that is taken as the reference."""

    start: datetime
    end: datetime

    @classmethod
    def parse(cls, text: str) -> Self:
        """`window:FROM..TO`, days or times in ISO 8601, in UTC unless they say otherwise; TO itself is left out.

        Raises NoReferenceError.
        """
        match = re.fullmatch(r"window:(.+?)\.\.(.+)", text.strip())
        try:
            start, end = (_utc(datetime.fromisoformat(moment)) for moment in match.groups()) if match else (None, None)
        except ValueError:
            start = end = None
        if start is None or end is None or start >= end:
            raise NoReferenceError(
                f"{text!r} is not a reference. Expected window:FROM..TO with FROM before TO, as window:2026-03-01..2026-03-08."
            )
        return cls(start, end)

    @property
    def name(self) -> str:
        """As reports show it."""
        return f"window:{self.start:%Y-%m-%dT%H:%M:%SZ}..{self.end:%Y-%m-%dT%H:%M:%SZ}"


class References:
    """Finds references; those made from production data are kept in `folder` and never made again."""

    def __init__(self, folder: Path, packages: Packages, window: ProductionWindow | None = None) -> None:
        self._files = Storage(str(folder))
        self._packages = packages
        self._window = window

    def find(self, store: RecordStore | StoreSnapshot, now: datetime) -> Reference | None:
        """The reference of a version; None if its package holds none. Raises NoReferenceError, TrackingUnavailableError."""
        snapshot = store.snapshot()
        if self._window is not None:
            return self._of_window(snapshot, self._window, now)
        try:
            return self._of_package(snapshot.store)
        except NoReferenceError as error:
            again = None
            if self._packages.set_aside(snapshot.store.model, snapshot.store.version, str(error)):
                again = self._of_package(snapshot.store)  # as the registry gives it now
            if again is None:
                raise
            return again

    def _of_package(self, store: RecordStore) -> Reference | None:
        package = self._packages.find(store.model, store.version)
        path = package and package / REFERENCE_FILE
        return _load(path) if path and path.exists() else None

    def _of_window(self, snapshot: StoreSnapshot, window: ProductionWindow, now: datetime) -> Reference:
        store = snapshot.store
        path = f"{store.model}/{store.version}/{window.start:%Y%m%dT%H%M%SZ}-{window.end:%Y%m%dT%H%M%SZ}.json"
        if self._files.entry(path) is not None:
            try:
                return _load(Path(self._files.full(path)))
            except NoReferenceError as error:
                self._set_aside(path, error)
        if window.end > now:
            raise NoReferenceError(f"{window.name} is not over yet. Choose one that is: its reference is built once and kept.")
        columns = [name for name in profile_columns(Layout.generic(snapshot.classes)) if name in snapshot.schema.names]
        batches = list(snapshot.read_batches(columns, start=window.start, end=window.end))
        if not batches:
            raise NoReferenceError(f"{store.model} version {store.version} has no records in {window.name}.")
        try:
            reference = Reference.build(
                pa.Table.from_batches(batches), snapshot.classes, window.name, store.model, store.version
            )
        except ValueError as error:
            raise NoReferenceError(str(error)) from error
        self._files.write(path, reference.to_bytes())
        _logger.warning(
            "New reference %s of %s version %s, kept in %s.", window.name, store.model, store.version, self._files.location
        )
        return reference

    def _set_aside(self, path: str, error: NoReferenceError) -> None:
        try:
            set_aside(self._files, path, error, "The reference is made again from the records of its window.")
        except StateFileError as unreadable:
            raise NoReferenceError(str(unreadable)) from unreadable


def _load(path: Path) -> Reference:
    """Raises NoReferenceError for a file that is damaged; StateFileError for one that cannot be read."""
    try:
        return Reference.load(path)
    except OSError as error:
        raise StateFileError(f"{path} cannot be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise NoReferenceError(str(error)) from error


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
