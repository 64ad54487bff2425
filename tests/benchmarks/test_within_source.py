from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks.ask import ask_all
from benchmarks.within_source import WAYS, measure, other_cameras, read_photos, saved_again
from eye_disease.evaluation.shares import Share
from model_code.decode import decode
from model_code.errors import ImageError
from model_code.schema import empty_answer
from tests.support.answers import CLASSES

DR = "diabetic_retinopathy"
COLOURS = {
    "cataract": (200, 200, 200),
    DR: (200, 40, 40),
    "glaucoma": (40, 200, 40),
    "normal": (40, 40, 200),
}


def _by_colour(photo: bytes) -> dict[str, Any]:
    """A classifier of coloured squares; what is neither is called normal. It reports what is bright enough."""
    try:
        colour = np.asarray(decode(photo, 64, 10**7).image).mean(axis=(0, 1))
    except ImageError as error:
        return empty_answer(CLASSES) | {"error_code": error.code}
    distance = {name: float(np.abs(colour - np.array(its)).sum()) for name, its in COLOURS.items()}
    best = min(distance, key=distance.__getitem__) if min(distance.values()) < 60 else "normal"
    shares = {f"prob_{name}": 0.85 if name == best else 0.05 for name in CLASSES}
    return shares | {"decision": "report" if colour.max() > 180 else "retake", "predicted_class": best, "error_code": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of two sources: in `south` diabetic retinopathy looks normal. One other disease looks normal, one like none."""
    folder = tmp_path_factory.mktemp("set")
    (folder / "fundus").mkdir()
    rows, more = [], []

    def photo(name: str, colour: tuple[int, int, int]) -> str:
        Image.new("RGB", (40, 40), colour).save(folder / "fundus" / f"{name}.png")
        return f"{name}.png"

    for source in ("north", "south"):
        for label, colour in COLOURS.items():
            seen = COLOURS["normal"] if (source, label) == ("south", DR) else colour
            for i in range(6):
                path = photo(f"{source}-{label}-{i}", seen)
                rows.append(
                    {"path": path, "label": label, "source": source, "split": "val", "grade": 2 if "ret" in label else ""}
                )
    rows.append(rows[0] | {"path": photo("trained", COLOURS["cataract"]), "split": "train"})
    for name, colour in (("a", COLOURS["normal"]), ("b", COLOURS["glaucoma"])):
        more.append({"path": photo(f"other-{name}", colour), "label": "other", "source": "north", "split": "val"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    pd.DataFrame(more).to_csv(folder / "more.csv", index=False)
    return folder


def _lines(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def _figures(table: str) -> dict[str, list[str]]:
    return {line[0]: line for line in _lines(table)}


def test_the_table_of_a_model_that_is_blind_for_a_disease_in_one_source(folder: Path) -> None:
    rows = read_photos(folder / "manifest.csv", None, "val")
    assert len(rows) == 48
    found = measure(_by_colour, rows, read_photos(folder / "more.csv", None, "val"))
    aurocs = {(line[0], line[1]): line[2] for line in _lines(found["Each disease against healthy"])}
    assert (aurocs[DR, "north"], aurocs[DR, "south"]) == ("1.000", "0.500")
    assert aurocs[f"{DR}, grade 2 and above", "south"] == "0.500"
    figures = _figures(found["Figures"])
    assert figures["accuracy"][1] == f"{42 / 48:.3f}"
    assert figures["error among reported"][1] == f"{6 / 48:.3f}"
    assert figures["any disease reported as normal"][1:4:2] == [f"{6 / 36:.3f}", "36"]
    assert figures["DR of grade 2 and above reported as normal, all"][1] == "0.500"
    assert figures["DR of grade 2 and above reported as normal, south"][1] == "1.000"
    assert figures["other diseases reported as normal"][1:4:2] == ["0.500", "2"]
    assert figures["healthy sent to `retake`"][1] == "0.000"
    share = Share.of(np.arange(48) < 42)
    assert figures["accuracy"][2] == f"{share.low:.3f} - {share.high:.3f}"
    assert found["Figures by source"].count("\n") == 3


def test_photos_that_cannot_be_read_are_counted_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    rows = read_photos(folder / "manifest.csv", None, "val")
    (tmp_path / "torn.png").write_bytes(b"no photo")
    rows = pd.concat([rows, rows.head(1).assign(file=[tmp_path / "torn.png"])], ignore_index=True)
    figures = _figures(measure(_by_colour, rows, None)["Figures"])
    assert figures["photos that are not answered"][1:4:2] == [f"{1 / 49:.3f}", "49"]
    assert figures["accuracy"][1:4:2] == [f"{42 / 48:.3f}", "48"]


def test_a_model_that_reads_the_file_is_found_out(folder: Path) -> None:
    rows = read_photos(folder / "manifest.csv", None, "val")

    def by_size(photo: bytes) -> dict[str, Any]:
        width = decode(photo, 4_000, 10**8).width
        return _by_colour(photo) | {"decision": "report" if width > 500 else "review"}

    lines = _figures(saved_again(by_size, rows, 8))
    assert len(lines) == len(WAYS) + 1
    assert {name: lines[name][2] for name in ("300 px, JPEG 60", "3,000 px, JPEG 85")} == {
        "300 px, JPEG 60": "0.000",
        "3,000 px, JPEG 85": "1.000",
    }
    assert lines["all"][1] == "0.000"


def test_other_cameras_may_be_a_folder_a_class(folder: Path, tmp_path: Path) -> None:
    for label, colour in (("glaucoma", COLOURS["glaucoma"]), ("normal", COLOURS["glaucoma"])):
        (tmp_path / label).mkdir()
        for i in range(5):
            Image.new("RGB", (40, 40), colour).save(tmp_path / label / f"{i}.png")
    said = other_cameras(_by_colour, read_photos(tmp_path, None, "all"))
    assert "| all: reported and wrong     | 0.500 |" in said or "| all: reported and wrong | 0.500 |" in said
    assert "0.500" in said.splitlines()[2]


def test_answers_keep_their_order() -> None:
    def ask(photo: bytes) -> dict[str, Any]:
        return {"said": photo.decode()}

    texts = [str(i) for i in range(50)]
    assert ask_all(ask, [text.encode for text in texts])["said"].tolist() == texts
