"""Text with a delimiter, as spreadsheets of any country save it -> cells with the lines they stand in."""

import csv
import io
import re
from dataclasses import dataclass

from eye_disease.common.errors import UserError

Cells = list[tuple[int, list[str]]]
"""Line number from 1, and the cells of the row that begins there."""


@dataclass(frozen=True)
class Reading:
    """A file read in one way."""

    cells: Cells
    problem: str = ""
    """Why nothing could be read after the last row."""


DELIMITERS = (",", ";", "\t", "|")
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_DECLARED = re.compile(r'"?sep=(.)"?[;,\t|]*\r?\n', re.IGNORECASE)
"""Excel's own first line, which names the delimiter."""


class TableError(UserError):
    """A file that is no table, or lacks a column; the message names the file, and the line where there is one."""


def decode_text(data: bytes) -> str:
    """Bytes of a text file -> its text: UTF-8, UTF-16 with or without its mark, or what Windows writes in Western Europe."""
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), None)
    if encoding is None and b"\0" in data[:100]:
        encoding = "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    for guess in (encoding or "utf-8", "cp1252"):
        try:
            return data.decode(guess)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def readings(text: str) -> list[tuple[str, int, str]]:
    """(delimiter, first line, text below it) of every way to read a text; one, where its first line names the delimiter."""
    if declared := _DECLARED.match(text):
        return [(declared[1], 2, text[declared.end() :])]
    return [(delimiter, 1, text) for delimiter in DELIMITERS]


def split_cells(text: str, delimiter: str, first_line: int) -> Reading:
    """Every row that holds something; cells without the blanks around them."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    rows: Cells = []
    start = first_line
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append((start, cells))
            start = first_line + reader.line_num
    except csv.Error as error:
        return Reading(rows, f"a quotation mark in the row that begins in line {start} is not closed properly ({error})")
    return Reading(rows)
