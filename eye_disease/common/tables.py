"""Tables as people make them, by spreadsheet or script -> rows of text. What a file is, its content says, not its suffix."""

import io
import re
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as papq

from eye_disease.common.delimited import Cells, Reading, TableError, decode_text, readings, split_cells

__all__ = ["Table", "TableError", "read_table", "some"]

_MISSING = {"", "na", "n/a", "#n/a", "#na", "nan", "null", "none", "<na>", "#ref!", "#value!", "#name?", "#div/0!"}
"""What spreadsheets and scripts write into a cell that holds nothing."""
_HEADER_WITHIN = 20
"""Rows in which the header is looked for: clinics put titles above it."""
_NO_TABLE = {
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls), or one with a password. Save it as .xlsx without one, or as CSV",
    b"%PDF": "a PDF. Save the table as .xlsx or CSV",
    b"\x1f\x8b": "compressed. Unpack it first",
    b"<": "HTML or XML, whatever its name says. Save the table as .xlsx or CSV",
    b"{": "JSON. Save the table as CSV",
    b"[": "JSON. Save the table as CSV",
}


@dataclass(frozen=True)
class Table:
    """What a file holds."""

    rows: pd.DataFrame
    """Text, nan where a cell is empty. Columns in lower case, blanks within a name as `_`. The index is the line in the file,
    and is named `line` (text) or `row` (workbook, Parquet)."""
    bad: dict[int, str]
    """Line -> why the row could not be read; it is not in `rows`."""


def read_table(path: Path, needed: Collection[str]) -> Table:
    """A table of at least the columns `needed`: CSV with any usual delimiter and encoding, .xlsx or Parquet.

    Raises TableError for a file that is none, for a column that is not there or there twice, and for a table without rows.
    """
    if not path.is_file():
        raise TableError(f"{path} is not a file. Expected a CSV, .xlsx or Parquet file with {_listed(needed)}.")
    try:
        table = _of_bytes(path.read_bytes(), needed)
    except TableError as error:
        raise TableError(f"{path}: {error}. Expected {_listed(needed)} in a CSV, .xlsx or Parquet file.") from error
    if table.rows.empty and not table.bad:
        raise TableError(f"{path} has a header and no rows below it. Expected rows with {_listed(needed)}.")
    return table


def some(items: Iterable[object]) -> str:
    """The first five, and how many more."""
    every = [str(item) for item in items]
    shown = ", ".join(every[:5])
    return f"{shown} and {len(every) - 5:,} more" if len(every) > 5 else shown


def _listed(names: Collection[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _of_bytes(data: bytes, needed: Collection[str]) -> Table:
    if data.startswith(b"PAR1"):
        return _of_parquet(data, needed)
    if data.startswith(b"PK"):
        return _first_fitting(_sheets(data), needed, "row")
    for start, kind in _NO_TABLE.items():
        if data.lstrip().startswith(start):
            raise TableError(f"the file is {kind}")
    text = decode_text(data)
    if "\0" in text:
        raise TableError("the file is not text, and no workbook or Parquet file either")
    candidates = [split_cells(below, delimiter, first_line) for delimiter, first_line, below in readings(text)]
    return _first_fitting(candidates, needed, "line")


def _sheets(data: bytes) -> list[Reading]:
    """The sheets of a workbook; of a formula the value that was saved with it."""
    from openpyxl import load_workbook  # a third of a second, for a format that few use

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl speaks of colours and validations that it does not know
            book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
            sheets = [[[_text(cell) for cell in row] for row in sheet.iter_rows(values_only=True)] for sheet in book.worksheets]
    except Exception as error:  # what openpyxl raises for a zip that is no workbook is not documented
        raise TableError("the file is a zip archive and no .xlsx workbook that can be read") from error
    return [Reading([(number, row) for number, row in enumerate(rows, start=1) if any(row)]) for rows in sheets]


def _text(value: Any) -> str:
    """A cell of a workbook or of Parquet as a CSV would hold it."""
    if value is None or value != value:  # nan
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, (date, datetime)) else str(value).strip()


def _of_parquet(data: bytes, needed: Collection[str]) -> Table:
    try:
        table = papq.read_table(io.BytesIO(data))
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise TableError(f"the Parquet file cannot be read ({error})") from error
    columns = [[_text(value) for value in column.to_pylist()] for column in table.columns]
    cells = [(0, table.column_names), *((n, list(row)) for n, row in enumerate(zip(*columns, strict=True), start=1))]
    return _first_fitting([Reading(cells)], needed, "row")


def _first_fitting(candidates: list[Reading], needed: Collection[str], kind: str) -> Table:
    """The first of several readings of a file that has the columns needed. Raises TableError if none has."""
    for reading in candidates:
        for position, (_, row) in enumerate(reading.cells[:_HEADER_WITHIN]):
            if set(needed) <= set(map(_name, row)):
                if reading.problem:
                    raise TableError(reading.problem)
                return _table([_name(cell) for cell in row], reading.cells[position + 1 :], kind)
    if not any(reading.cells or reading.problem for reading in candidates):
        raise TableError("the file is empty")
    headers = [{_name(cell) for cell in reading.cells[0][1]} for reading in candidates if reading.cells]
    missing = min((set(needed) - header for header in headers), key=len, default=set(needed))
    raise TableError(f"it lacks the columns {sorted(missing)}")


def _name(cell: str) -> str:
    return re.sub(r"[\s\-]+", "_", cell.strip("\ufeff \t").casefold())


def _table(header: list[str], cells: Cells, kind: str) -> Table:
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise TableError(f"it has the columns {twice} twice")
    rows, bad = {}, {}
    for line, row in cells:
        if any(row[len(header) :]):
            bad[line] = f"has {len(row)} cells and the header {len(header)}; quote a cell that holds the delimiter"
            continue
        padded = [*row, *[""] * (len(header) - len(row))]
        rows[line] = [None if cell.casefold() in _MISSING else cell for cell in padded[: len(header)]]
    index = pd.Index(list(rows), name=kind, dtype="int64")
    table = pd.DataFrame(list(rows.values()), index=index, columns=header, dtype="str")
    return Table(table[[name for name in header if name]], bad)
