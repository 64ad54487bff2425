from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance

from eye_disease.evaluation.class_folders import NESTED
from eye_disease.evaluation.duplicates import Fingerprint, contradicting, find_duplicates, joined_groups
from eye_disease.evaluation.manifest import LEFT_OUT
from eye_disease.evaluation.photo_files import NO_PHOTO
from eye_disease.training.photos import Photos, load_squares
from eye_disease.training.prepare import DUPLICATES, USED, prepare_photos
from eye_disease.training.split import DataError, check, of_folder, read_manifest, split
from model_code.preprocessing import Recipe, disc_square, prepare
from tests.support.photos import encode, fundus

RECIPE = Recipe(64)


def _rows(**columns: list[str]) -> pd.DataFrame:
    rows = pd.DataFrame(columns)
    return rows.reindex(columns=["path", "label", "source", "group", "split"])


def _csv(folder: Path, text: str) -> Path:
    (folder / "manifest.csv").write_text(text)
    return folder / "manifest.csv"


def test_a_folder_a_class_is_a_manifest(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "a/1.png", "a/notes.txt", "a/deeper/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    rows = of_folder(tmp_path)
    assert rows[["path", "label"]].to_numpy().tolist() == [["a/1.png", "a"], ["b/2.JPG", "b"]]
    assert rows["group"].tolist() == rows["path"].tolist()
    assert rows["split"].isna().all()
    assert rows.attrs[LEFT_OUT] == {NO_PHOTO: ["a/notes.txt"], NESTED: ["a/deeper/3.png"]}


def test_a_manifest_is_read_with_what_it_knows(tmp_path: Path) -> None:
    rows = read_manifest(_csv(tmp_path, "path,label,group,eye\n1.jpg,x,7,left\n2.jpg,y,8,right\n"))
    unknown = dict.fromkeys(("split", "sex", "finding", "grade", "age"))
    assert rows.to_dict("list") | unknown == {
        "path": ["1.jpg", "2.jpg"],
        "label": ["x", "y"],
        "source": ["unknown", "unknown"],
        "group": ["7", "8"],
        **unknown,
    }
    assert rows[list(unknown)].isna().all(axis=None)


def test_grade_age_sex_and_finding_are_kept_where_they_are_known(tmp_path: Path) -> None:
    rows = read_manifest(_csv(tmp_path, "path,label,grade,age,sex,finding\n1.jpg,x,2,61,F,drusen\n2.jpg,y,,,,\n"))
    assert rows.iloc[0][["grade", "age", "sex", "finding"]].tolist() == [2.0, 61.0, "F", "drusen"]
    assert rows.iloc[1][["grade", "age", "sex", "finding"]].isna().all()
    assert (rows["grade"].dtype, rows["age"].dtype) == ("float64", "float64")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("path\n1.jpg\n", r"lacks the columns \['label'\]. Expected path and label"),
        ("path,label\n1.jpg,\n2.jpg,y\n3.jpg,\n", r"no label in the lines 2, 4"),
        ("path,label,split\n1.jpg,x,test\n", r"the splits \['test'\]. Expected only train and val"),
        ("path,label,group\n1.jpg,x,\n2.jpg,x,3\n", r"no group in the lines 2"),
        ("path,label,grade\n1.jpg,x,\n2.jpg,x,5\n3.jpg,x,mild\n", r"no grade from 0 to 4 in the lines 3, 4. Leave it empty"),
        ("path,label,age\n1.jpg,x,-1\n", r"no age from 0 to 130 in the lines 2"),
    ],
)
def test_a_wrong_manifest_is_refused_by_name(text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=problem):
        read_manifest(_csv(tmp_path, text))


def test_a_manifest_from_a_clinics_spreadsheet(tmp_path: Path) -> None:
    rows = " Path;LABEL ;Group;Split;Age;\r\nOD\\João.jpg;normal;7; Train;63,5;\r\nOE\\2.jpg;glaucoma;8;VAL;;\r\n;;;;;\r\n"
    (tmp_path / "manifest.csv").write_bytes(rows.encode("cp1252"))
    found = read_manifest(tmp_path / "manifest.csv")
    assert found[["path", "split"]].to_numpy().tolist() == [["OD/João.jpg", "train"], ["OE/2.jpg", "val"]]
    assert found["age"].iloc[0] == 63.5
    assert found.index.tolist() == [2, 3]


def test_a_row_that_cannot_be_read_stops_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest.csv: line 3 has 3 cells and the header 2; quote"):
        read_manifest(_csv(tmp_path, "path,label\n1.jpg,x\nleft, 2.jpg,y\n"))


def test_no_photos_and_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no photos. Expected .*<class>/<photo>.jpg"):
        of_folder(tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        of_folder(tmp_path / "absent")
    with pytest.raises(DataError, match="is not a file"):
        read_manifest(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("labels", "classes", "problem"),
    [
        (["a"] * 20, None, "the one label"),
        (["glaucoma"] * 20 + ["normal"] * 20 + ["glaucomma"] * 5, None, "'glaucomma' .5 photos. looks like 'glaucoma'"),
        (["Normal"] * 5 + ["normal"] * 20 + ["other"] * 20, None, "'Normal' .5 photos. looks like 'normal'"),
        (["Normal"] * 10 + ["normal"] * 10, None, "'normal' .10 photos. looks like 'Normal'"),
        (["diabetic retinopathy"] * 9 + ["diabetic_retinopathy"] * 9 + ["x"] * 9, None, "looks like"),
        (["a"] * 20 + ["b"] * 3, None, "Too few photos of {'b': 3}"),
        (["a"] * 20 + ["b"] * 20, ("a", "b", "c"), "Too few photos of {'c': 0}"),
        (["a"] * 20 + ["b"] * 20, ("a", "c"), r"labels \['b'\] are not among the classes"),
    ],
)
def test_wrong_labels_are_refused(labels: list[str], classes: tuple[str, ...] | None, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        check(_rows(path=[str(i) for i in range(len(labels))], label=labels), classes)


def test_labels_that_look_alike_are_taken_when_all_are_named() -> None:
    rows = _rows(path=[str(i) for i in range(40)], label=["type_1"] * 20 + ["type_2"] * 20)
    assert check(rows, ("type_2", "type_1")) == ("type_2", "type_1")


def test_a_photo_named_twice_is_refused() -> None:
    with pytest.raises(DataError, match="3 are named more than once"):
        check(_rows(path=["1", "2", "3", "3", *"45678"], label=["a"] * 4 + ["b"] * 5), None)


def test_the_split_keeps_groups_whole_and_classes_in_proportion() -> None:
    rng = np.random.default_rng(0)
    groups = [f"g{i // 2}" for i in range(400)]
    labels = [("a", "a", "a", "b")[rng.integers(4)] for _ in range(200) for _ in range(2)]
    rows = split(_rows(path=[str(i) for i in range(400)], label=labels, group=groups), 0.2, seed=1)
    assert (rows.groupby("group")["split"].nunique() == 1).all()
    share = (rows["split"] == "val").groupby(rows["label"]).mean()
    assert share.to_dict() == pytest.approx({"a": 0.2, "b": 0.2}, abs=0.05)
    again = split(rows.assign(split=None), 0.2, seed=1)
    assert (again["split"] == rows["split"]).all()


@pytest.mark.parametrize("photos", [4, 5, 6, 7])
@pytest.mark.parametrize("classes", ["ab", "abcd"])
def test_as_few_photos_as_are_asked_for_can_be_split(photos: int, classes: str) -> None:
    """A sixth of the photos is not one of each of four classes; each side gets one all the same."""
    labels = list(classes) * photos
    names = [str(i) for i in range(len(labels))]
    rows = _rows(path=names, label=labels, group=names)
    assert check(rows, None) == tuple(classes)
    for seed in range(5):
        sides = split(rows, 0.15, seed).groupby("split")["label"].nunique()
        assert sides.to_dict() == {"train": len(classes), "val": len(classes)}


def test_a_class_of_one_patient_is_refused_in_a_sentence() -> None:
    rows = _rows(path=[str(i) for i in range(12)], label=["a"] * 6 + ["b"] * 6, group=["one"] * 6 + list("uvwxyz"))
    with pytest.raises(DataError, match=r"has no photo of \['a'\].*photos of other patients"):
        split(rows, 0.15, seed=1)


def test_a_given_split_is_kept_and_a_group_on_both_sides_refused() -> None:
    rows = _rows(path=list("1234"), label=list("abab"), group=list("wxyz"), split=["train", "train", "val", "val"])
    assert split(rows, 0.2, seed=1)["split"].tolist() == ["train", "train", "val", "val"]
    with pytest.raises(DataError, match="groups w have photos in train and in val"):
        split(rows.assign(group=list("wxwz")), 0.2, seed=1)
    with pytest.raises(DataError, match=r"split val has no photo of \['b'\]"):
        split(rows.assign(split=["train", "train", "val", "train"]), 0.2, seed=1)


def _patterned(seed: int) -> Image.Image:
    """A made-up fundus photo with vessels of its own."""
    photo = np.asarray(fundus(200, seed=seed), np.float32)
    rng = np.random.default_rng(seed)
    for _ in range(25):
        start, angle = rng.uniform(30, 170, 2), rng.uniform(0, np.pi)
        for step in np.linspace(-40, 40, 160):
            y, x = (start + step * np.array([np.sin(angle), np.cos(angle)])).astype(int).clip(0, 197)
            photo[y : y + 3, x : x + 3] *= 0.8
    return Image.fromarray(photo.astype(np.uint8))


def test_copies_are_found_however_they_were_changed() -> None:
    originals = [_patterned(seed) for seed in range(1, 13)]
    copies = [
        originals[0],
        originals[1].transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        ImageEnhance.Brightness(originals[2]).enhance(0.7),
        originals[3].resize((150, 150)).resize((200, 200)),
    ]
    squares = np.stack([np.asarray(disc_square(photo, RECIPE)) for photo in [*originals, *copies]])
    rows = _rows(path=[str(i) for i in range(16)], label=["a"] * 12 + ["b", "a", "a", "a"])
    pairs = find_duplicates(rows, [Fingerprint.of(square) for square in squares])
    assert sorted(zip(pairs["first"], pairs["second"], strict=True)) == [(0, 12), (1, 13), (2, 14), (3, 15)]
    assert pairs.set_index("first")["identical"].to_dict() == {0: True, 1: False, 2: False, 3: False}
    assert contradicting(pairs)[["path_1", "path_2"]].to_numpy().tolist() == [["0", "12"]]
    groups = joined_groups(pd.Series([f"g{i}" for i in range(16)]), pairs)
    assert len(set(groups)) == 12
    assert all(groups[i] == groups[12 + i] for i in range(4))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten photos a class, in a folder a class."""
    for number in range(20):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(encode(_patterned(number + 1), "PNG"))
    return tmp_path / "photos"


def _prepare(photos: Path, work: Path, drop_bad: bool = False) -> tuple[Photos, list[str]]:
    prepared = prepare_photos(of_folder(photos), photos, None, RECIPE, work, drop_bad, 0.3, seed=1)
    return prepared.photos, prepared.remarks


def test_views_are_those_of_serving(photos: Path, tmp_path: Path) -> None:
    prepared, remarks = _prepare(photos, tmp_path / "work")
    validation = prepared.of("val")
    assert len(validation.rows) + len(prepared.of("train").rows) == 20
    for path, view, label in zip(validation.rows["path"], validation.views, validation.labels, strict=True):
        assert (view == prepare(Image.open(photos / path).convert("RGB"), RECIPE)).all()
        assert path.startswith("ab"[label])
    assert any("No group column" in remark and "too good" in remark for remark in remarks)


def test_an_unreadable_photo_is_refused_or_left_out(photos: Path, tmp_path: Path) -> None:
    (photos / "a" / "torn.jpg").write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"1 of 21 photos cannot be read, the first: a/torn.jpg: .*--drop-bad"):
        _prepare(photos, tmp_path / "work")
    prepared, remarks = _prepare(photos, tmp_path / "work", drop_bad=True)
    assert "a/torn.jpg" not in set(prepared.rows["path"])
    assert len(prepared.rows) == 20
    assert any("Left out" in remark for remark in remarks)


def test_a_photo_with_two_labels_is_refused_or_left_out(photos: Path, tmp_path: Path) -> None:
    (photos / "b" / "copy.png").write_bytes((photos / "a" / "0.png").read_bytes())
    with pytest.raises(DataError, match=r"two labels, the first: a/0.png and b/copy.png"):
        _prepare(photos, tmp_path / "work")
    prepared, _ = _prepare(photos, tmp_path / "work", drop_bad=True)
    assert not {"a/0.png", "b/copy.png"} & set(prepared.rows["path"])
    reported = pd.read_csv(tmp_path / "work" / DUPLICATES)
    assert reported[["path_1", "path_2", "identical"]].to_numpy().tolist() == [["a/0.png", "b/copy.png", True]]


def test_a_source_that_gives_a_class_away_is_warned_of_and_nothing_is_refused(photos: Path, tmp_path: Path) -> None:
    rows = of_folder(photos).assign(source=lambda rows: np.where(rows["label"] == "b", "hospital", ["clinic", "street"] * 10))
    prepared = prepare_photos(rows, photos, None, RECIPE, tmp_path / "work", drop_bad=False, validation_share=0.3, seed=1)
    assert len(prepared.photos.rows) == 20
    warned = [remark for remark in prepared.remarks if remark.startswith("Warning: ")]
    assert [remark.split(":")[1] for remark in warned] == [
        " All 10 photos of b come from one source, hospital",
        " All 5 photos of the source clinic are a",
        " All 10 photos of the source hospital are b",
        " All 5 photos of the source street are a",
    ]


@pytest.mark.parametrize("source", [["here"] * 20, ["here"] * 10 + ["there"] * 10])
def test_classes_that_share_their_sources_are_not_warned_of(source: list[str], photos: Path, tmp_path: Path) -> None:
    rows = of_folder(photos).sort_values("path", key=lambda paths: paths.str.split("/").str[1]).assign(source=source)
    prepared = prepare_photos(rows, photos, None, RECIPE, tmp_path / "work", drop_bad=False, validation_share=0.3, seed=1)
    assert not any("Warning" in remark for remark in prepared.remarks)


def test_photos_of_no_single_class_ride_along_with_their_split(photos: Path, tmp_path: Path) -> None:
    rows = of_folder(photos).assign(split=["train", "val"] * 10)
    rows, more = rows.iloc[4:], rows.iloc[:4].assign(label=["other", "not_a", "unsure", "several"], finding=["", "", "", "a|b"])
    prepared = prepare_photos(rows, photos, None, RECIPE, tmp_path / "work", False, 0.3, seed=1, more=more).photos
    assert prepared.classes == ("a", "b")
    assert list(prepared.of("val").more["label"]) == ["not_a", "several"]
    for path, view in zip(prepared.more["path"], prepared.views_of(prepared.more), strict=True):
        assert (view == prepare(Image.open(photos / path).convert("RGB"), RECIPE)).all()
    assert len(pd.read_csv(tmp_path / "work" / USED)) == 20


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"label": "glaucoma"}, "The labels glaucoma are not known. Expected one of a, b; other"),
        ({"split": None}, "need a column split"),
        ({"group": "a/12.png"}, "The groups a/12.png have photos in train and in val"),
        ({"path": "a/12.png"}, "The photos a/12.png are named in both tables"),
    ],
)
def test_more_photos_that_do_not_fit_are_refused(change: dict[str, str], problem: str, photos: Path, tmp_path: Path) -> None:
    rows = of_folder(photos).assign(split=["train", "val"] * 10).set_index("path", drop=False)
    rows.loc["a/12.png", "split"] = "val"
    more = rows.loc[["a/0.png"]].assign(label="other", split="train").assign(**change)
    with pytest.raises(DataError, match=problem):
        prepare_photos(rows.drop("a/0.png"), photos, None, RECIPE, tmp_path / "work", False, 0.3, seed=1, more=more)


def test_squares_keep_the_order_of_the_rows(photos: Path, tmp_path: Path) -> None:
    rows = of_folder(photos).iloc[::-1].reset_index(drop=True)
    seen: list[tuple[int, int]] = []
    squares, problems = load_squares(photos, rows, RECIPE, tmp_path / "squares.npy", lambda *done: seen.append(done))
    assert problems == {}
    assert seen == [(i, 20) for i in range(1, 21)]
    for path, square in zip(rows["path"], squares, strict=True):
        assert (square == np.asarray(disc_square(Image.open(photos / path).convert("RGB"), RECIPE))).all()
