"""Tables as clinics make them: read with the right cells, or refused with the file, the line, the cause and the remedy."""

import io
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from eye_disease.common.tables import TableError, read_table

NEEDED = ("path", "label")
PLAIN = "path,label,age\n1.jpg,normal,63.5\n2.jpg,glaucoma,\n"
SEMICOLON = "path;label;age\n1.jpg;normal;63,5\n2.jpg;glaucoma;\n"


def _read(data: bytes, folder: Path, name: str = "table.csv") -> pd.DataFrame:
    (folder / name).write_bytes(data)
    table = read_table(folder / name, NEEDED)
    assert table.bad == {}
    return table.rows


def _workbook(*rows: tuple[object, ...], before: tuple[str, ...] = ()) -> bytes:
    book = openpyxl.Workbook()
    for name in before:
        book.create_sheet(name)
    sheet = book.create_sheet("photos") if before else book.active
    for row in rows:
        sheet.append(row)
    book.save(buffer := io.BytesIO())
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        PLAIN.encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-16-le"),
        PLAIN.encode("utf-16-be"),
        PLAIN.replace(",", "\t").encode(),
        PLAIN.replace(",", "|").encode(),
        ("sep=,\n" + PLAIN).encode(),
        ("sep=;\r\n" + PLAIN.replace(",", ";")).encode("utf-16"),
        PLAIN.replace("path,label,age", " Path , LABEL,Age ").encode(),
        PLAIN.replace("path,label,age", '"path", "label", "age"').encode(),
        PLAIN.replace("\n", ",,,\n").encode(),
        (PLAIN + ",,\n\n , ,\n").encode(),
        ("\n\n" + PLAIN).encode(),
        ("Photos of March 2026,,\n,,\n" + PLAIN).encode(),
        PLAIN.rstrip("\n").encode(),
        PLAIN.replace("glaucoma,\n", "glaucoma\n").encode(),
        PLAIN.replace("glaucoma,", "glaucoma,NaN").encode(),
        _workbook(("path", "label", "age"), ("1.jpg", "normal", 63.5), ("2.jpg", "glaucoma", None)),
        _workbook(
            (" PATH ", "Label", "age", None), ("1.jpg", "normal", "63.5"), (), ("2.jpg", "glaucoma", "", ""), before=("x",)
        ),
    ],
    ids=[
        *("plain", "crlf", "cr", "bom", "utf-16", "utf-16-le", "utf-16-be", "tab", "bar", "sep line", "sep line utf-16"),
        *(
            "padded upper header",
            "quoted header",
            "empty columns",
            "empty rows",
            "empty lines first",
            "title",
            "no last newline",
        ),
        *("short row", "nan", "xlsx", "xlsx odd"),
    ],
)
@pytest.mark.parametrize("name", ["table.csv", "table.xlsx"])
def test_the_same_table_is_the_same_however_it_is_saved(data: bytes, name: str, tmp_path: Path) -> None:
    rows = _read(data, tmp_path, name)
    assert list(rows.columns) == ["path", "label", "age"]
    assert rows.astype(object).where(rows.notna(), None).to_numpy().tolist() == [
        ["1.jpg", "normal", "63.5"],
        ["2.jpg", "glaucoma", None],
    ]


def test_cells_keep_what_they_hold(tmp_path: Path) -> None:
    assert _read(SEMICOLON.encode(), tmp_path)["age"].iloc[0] == "63,5"
    text = 'path,label\n"a, b.jpg",normal\n"c ""d"".jpg",x\n"two\nlines.jpg",y\nlast.jpg,z\n'
    rows = _read(text.encode(), tmp_path)
    assert rows["path"].tolist() == ["a, b.jpg", 'c "d".jpg', "two\nlines.jpg", "last.jpg"]
    assert rows.index.tolist() == [2, 3, 4, 6]
    assert rows.index.name == "line"


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "latin-1", "utf-16"])
def test_accents_are_read_in_every_encoding(encoding: str, tmp_path: Path) -> None:
    rows = _read("path;label\nJoão/olho_esquerdo.jpg;não é glaucoma\n".encode(encoding), tmp_path)
    assert rows.iloc[0].tolist() == ["João/olho_esquerdo.jpg", "não é glaucoma"]


def test_a_workbook_gives_the_texts_that_a_csv_would_hold(tmp_path: Path) -> None:
    rows = _read(_workbook(("path", "label", "at", "n"), (12, True, datetime(2026, 3, 4, 8), 2.0)), tmp_path, "t.xlsx")
    assert rows.iloc[0].tolist() == ["12", "True", "2026-03-04T08:00:00", "2"]
    assert (rows.index.tolist(), rows.index.name) == ([2], "row")


def test_parquet_is_read_as_text(tmp_path: Path) -> None:
    pd.DataFrame({"path": ["1.jpg", "2.jpg"], "label": ["a", None], "n": [1.0, 2.5]}).to_parquet(tmp_path / "t.parquet")
    rows = read_table(tmp_path / "t.parquet", NEEDED).rows
    assert rows.astype(object).where(rows.notna(), None).to_numpy().tolist() == [["1.jpg", "a", "1"], ["2.jpg", None, "2.5"]]


def test_a_row_with_a_cell_too_many_costs_itself(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\n1.jpg,normal\nleft, right.jpg,normal\n3.jpg,x,\n")
    table = read_table(tmp_path / "t.csv", NEEDED)
    assert table.rows["path"].tolist() == ["1.jpg", "3.jpg"]
    assert table.bad == {3: "has 3 cells and the header 2; quote a cell that holds the delimiter"}


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: b"", "the file is empty"),
        (lambda: b"\n \n", "the file is empty"),
        (
            lambda: b"path;class\n1.jpg;a\n",
            r"it lacks the columns \['label'\]. Expected path and label in a CSV",
        ),
        (lambda: b"path,label\n", "has a header and no rows"),
        (lambda: b"path,label,Label\n1,2,3\n", r"has the columns \['label'\] twice"),
        (lambda: b'path,label\n1.jpg,a\n"2.jpg,b\n3.jpg,c\n', "row that begins in line 3 is not closed"),
        (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), r"old Excel workbook .*Save it as .xlsx"),
        (lambda: b"%PDF-1.7\n", "a PDF"),
        (lambda: b"\x1f\x8b\x08\0", "compressed"),
        (lambda: b"<html><table>", "HTML"),
        (lambda: b"PK\x03\x04" + bytes(50), "no .xlsx workbook"),
        (lambda: b"PAR1" + bytes(50), "Parquet file cannot be read"),
        (lambda: bytes(range(256)) * 4, "lacks the columns|not text"),
        (lambda: _workbook(("path", "x"), ("1.jpg", "a")), r"lacks the columns \['label'\]"),
    ],
)
def test_what_is_no_such_table_is_refused_with_file_cause_and_remedy(
    make: Callable[[], bytes], problem: str, tmp_path: Path
) -> None:
    (tmp_path / "photos.csv").write_bytes(make())
    with pytest.raises(TableError, match=problem) as caught:
        read_table(tmp_path / "photos.csv", NEEDED)
    assert "photos.csv" in str(caught.value)
    assert "path and label" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        TableError, match=r"nowhere.csv is not a file. Expected a CSV, .xlsx or Parquet file with path and label"
    ):
        read_table(tmp_path / "nowhere.csv", NEEDED)
