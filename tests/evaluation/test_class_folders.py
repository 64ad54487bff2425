"""What of a folder a class is taken, and that nothing vanishes from it without a word."""

import io
from pathlib import Path

import pytest
from PIL import Image

from eye_disease.evaluation.class_folders import BESIDE, NESTED, scan, summary
from eye_disease.evaluation.photo_files import NO_PHOTO, SYSTEM, DataError, files_below, why_no_photo

HEIC = b"\0\0\0\x18ftypheic" + bytes(200)


def _photo(file_format: str) -> bytes:
    Image.new("RGB", (40, 40)).save(buffer := io.BytesIO(), file_format)
    return buffer.getvalue()


def _put(folder: Path, **files: bytes) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("name", ["1.jpg", "1.jfif", "1", "IMG_0001.JPE", "photo.of.march", "1.dat"])
def test_a_photo_is_one_whatever_it_is_called(file_format: str, name: str, tmp_path: Path) -> None:
    _put(tmp_path, **{f"normal/{name}": _photo(file_format), "glaucoma/1.png": _photo("PNG")})
    folders = scan(tmp_path)
    assert sorted(map(str, folders.photos)) == sorted(["glaucoma/1.png", f"normal/{name}"])
    assert folders.left_out == {}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (HEIC, "HEIC, a format that is not read"),
        (b"\0\0\0\x1cftypavif" + bytes(99), "AVIF"),
        (b"\0\0\0\x1cftypisom" + bytes(99), "a video"),
        (_photo("GIF"), "GIF"),
        (_photo("JPEG2000"), "JPEG 2000"),
        (bytes(128) + b"DICM" + bytes(99), "DICOM"),
        (b"%PDF-1.7", "PDF"),
        (b"II*\0\x10\0\0\0CR\x02\0", "camera raw"),
    ],
)
@pytest.mark.parametrize("name", ["1.jpg", "1.heic", "1"])
def test_a_picture_that_cannot_be_read_is_named_with_its_format(content: bytes, reason: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert why_no_photo(tmp_path / name).startswith(reason)


def test_texts_are_no_photos_and_damaged_photos_are(tmp_path: Path) -> None:
    for name, content, reason in (
        ("notes.txt", b"hello", NO_PHOTO),
        ("BMI.txt", b"BMI of all patients, by age and sex\n", NO_PHOTO),
        ("nothing", b"", NO_PHOTO),
        ("torn.jpg", b"", ""),
        ("torn.png", b"no photo", ""),
    ):
        (tmp_path / name).write_bytes(content)
        assert why_no_photo(tmp_path / name) == reason, name


def test_what_systems_leave_behind_is_neither_a_class_nor_a_photo(tmp_path: Path) -> None:
    photo = _photo("JPEG")
    photos = {"a/1.jpg": photo, "b/1.jpg": photo}
    left = ("@eaDir/1.jpg", ".ipynb_checkpoints/1-checkpoint.jpg", "__MACOSX/a/1.jpg", "a/@eaDir/1.jpg/thumb.jpg")
    _put(tmp_path, **photos, **dict.fromkeys(left, photo), **{"a/._1.jpg": photo, "a/.DS_Store": b"x", "b/Thumbs.db": b"x"})
    folders = scan(tmp_path)
    assert sorted(map(str, folders.photos)) == sorted(photos)
    assert set(folders.left_out) == {SYSTEM}
    assert {"@eaDir", ".ipynb_checkpoints", "a/._1.jpg", "b/Thumbs.db"} <= set(folders.left_out[SYSTEM])


def test_what_is_not_taken_is_counted_and_named(tmp_path: Path) -> None:
    photo = _photo("JPEG")
    _put(
        tmp_path,
        **{"a/1.jpg": photo, "b/1.jpg": photo, "b/left/2.jpg": photo, "3.jpg": photo, "a/2.heic": HEIC, "a/x.csv": b"x"},
    )
    folders = scan(tmp_path)
    heic = "HEIC, a format that is not read: save it as JPEG or PNG"
    assert folders.left_out == {heic: ["a/2.heic"], NESTED: ["b/left/2.jpg"], BESIDE: ["3.jpg"], NO_PHOTO: ["a/x.csv"]}
    sentence = summary(folders.left_out)
    assert sentence.startswith("Not taken: 1 HEIC")
    assert all(name in sentence for name in ("a/2.heic", "b/left/2.jpg", "3.jpg", "a/x.csv"))
    assert summary({}) == ""


@pytest.mark.parametrize(
    ("inside", "message"), [({}, ""), ({"1.heic": HEIC}, "HEIC"), ({"left/1.jpg": b"\xff\xd8\xff"}, "left/1.jpg")]
)
def test_a_class_without_photos_is_refused(inside: dict[str, bytes], message: str, tmp_path: Path) -> None:
    (tmp_path / "normal").mkdir()
    _put(
        tmp_path,
        **{"a/1.jpg": _photo("JPEG"), "a/notes.txt": b"x"},
        **{f"normal/{name}": data for name, data in inside.items()},
    )
    with pytest.raises(DataError, match=r"class folders normal of .* hold no photos") as caught:
        scan(tmp_path)
    assert message in str(caught.value)
    assert "notes.txt" not in str(caught.value)


def test_a_class_folder_may_be_a_link(tmp_path: Path) -> None:
    _put(tmp_path, **{"elsewhere/1.jpg": _photo("JPEG"), "photos/a/1.jpg": _photo("JPEG")})
    (tmp_path / "photos" / "b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert sorted(map(str, scan(tmp_path / "photos").photos)) == ["a/1.jpg", "b/1.jpg"]
    assert len(list(files_below(tmp_path / "photos"))) == 2
