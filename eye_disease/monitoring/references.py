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
from eye_disease.records.store import RecordStore

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
            start, end = (_utc(datetime.fromisoformat(one)) for one in match.groups()) if match else (None, None)
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
        self._folder = folder
        self._packages = packages
        self._window = window

    def find(self, store: RecordStore, now: datetime) -> Reference | None:
        """The reference of a version; None if its package holds none. Raises NoReferenceError, TrackingUnavailableError."""
        if self._window is not None:
            return self._of_window(store, self._window, now)
        package = self._packages.find(store.model, store.version)
        path = package and package / REFERENCE_FILE
        if path is None or not path.is_file():
            return None
        try:
            return Reference.load(path)
        except ValueError as error:
            raise NoReferenceError(str(error)) from error

    def _of_window(self, store: RecordStore, window: ProductionWindow, now: datetime) -> Reference:
        path = self._folder / store.model / store.version / f"{window.start:%Y%m%dT%H%M%SZ}-{window.end:%Y%m%dT%H%M%SZ}.json"
        if path.is_file():
            return Reference.load(path)
        if window.end > now:
            raise NoReferenceError(f"{window.name} is not over yet. Take a window that is: it is kept as it is then.")
        classes = store.state().classes
        columns = [name for name in profile_columns(Layout.generic(classes)) if name in store.columns()]
        batches = list(store.read_batches(columns, start=window.start, end=window.end))
        if not batches:
            raise NoReferenceError(f"{store.model} version {store.version} has no records in {window.name}.")
        try:
            made = Reference.build(pa.Table.from_batches(batches), classes, window.name, store.model, store.version)
        except ValueError as error:
            raise NoReferenceError(str(error)) from error
        path.parent.mkdir(parents=True, exist_ok=True)
        incoming = path.with_suffix(".partial")
        made.save(incoming)
        incoming.rename(path)
        _logger.warning("New reference %s of %s version %s, kept in %s.", window.name, store.model, store.version, self._folder)
        return made


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
