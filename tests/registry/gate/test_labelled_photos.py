from pathlib import Path

import pytest

from eye_disease.evaluation.manifest import DataError
from eye_disease.registry.gate.labelled_photos import read_labelled


def _photo(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_a_folder_with_a_subfolder_a_class(tmp_path: Path) -> None:
    for path, content in {"a/1.jpg": "x", "a/2.png": "y", "b/1.jpg": "z", "b/notes.txt": "w"}.items():
        _photo(tmp_path / path, content)
    photos = read_labelled(tmp_path)
    assert sorted(photos.rows["label"]) == ["a", "a", "b"]
    assert photos.codes(("b", "a")).tolist() == [1 if label == "a" else 0 for label in photos.rows["label"]]


def test_a_set_has_the_same_digest_wherever_it_lies(tmp_path: Path) -> None:
    for name, photo in (("one", "1.jpg"), ("two", "other.jpg")):
        _photo(tmp_path / name / "a" / photo, "x")
        _photo(tmp_path / name / "b" / photo, "y")
    _photo(tmp_path / "three" / "a" / "1.jpg", "x")
    _photo(tmp_path / "three" / "c" / "1.jpg", "y")
    first, second, third = (read_labelled(tmp_path / name).digest for name in ("one", "two", "three"))
    assert first == second != third


def test_copies_count_once_and_contradictory_labels_not_at_all(tmp_path: Path) -> None:
    for path, content in {"a/1.jpg": "x", "a/2.jpg": "x", "a/3.jpg": "both", "b/1.jpg": "both", "b/2.jpg": "y"}.items():
        _photo(tmp_path / path, content)
    photos = read_labelled(tmp_path)
    assert (len(photos.rows), photos.twice, photos.contradictory) == (2, 1, 2)


def test_of_a_manifest_with_a_split_the_validation_photos_are_taken(tmp_path: Path) -> None:
    for name in "123":
        _photo(tmp_path / "photos" / f"{name}.jpg", name)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("path,label,source,split\n1.jpg,a,s,val\n2.jpg,b,t,train\n3.jpg,b,t,val\n")
    photos = read_labelled(manifest, tmp_path / "photos")
    assert sorted(zip(photos.rows["label"], photos.rows["source"], strict=True)) == [("a", "s"), ("b", "t")]
    manifest.write_text("path,label,split\n1.jpg,a,train\n")
    with pytest.raises(DataError, match="no row of the split val"):
        read_labelled(manifest, tmp_path / "photos")


def test_missing_photos_are_told_by_line_and_not_by_name(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("path,label\nMaria_Silva.jpg,a\nx.jpg,b\n")
    _photo(tmp_path / "x.jpg", "x")
    with pytest.raises(DataError, match=r"1 of 2 photos .* the first in line 2\. .*--photos or GATE_PHOTOS") as caught:
        read_labelled(manifest)
    assert "Maria" not in str(caught.value)


def test_nothing_but_contradictions_is_no_set(tmp_path: Path) -> None:
    _photo(tmp_path / "a" / "1.jpg", "x")
    _photo(tmp_path / "b" / "1.jpg", "x")
    with pytest.raises(DataError, match="All 2 photos have two labels"):
        read_labelled(tmp_path)
