"""An audit finds what is wrong with a set, and nothing where nothing is."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from eye_disease.audit.audit import Audit, audit
from eye_disease.audit.page import findings, page
from eye_disease.audit.probes import probe_classes
from eye_disease.common.progress import Progress
from eye_disease.evaluation.manifest import of_folder, read_manifest
from tests.support.photos import PACKAGE, SAMPLES, fundus

pytestmark = pytest.mark.slow

PHOTOS = 24
"""Of each class"""


def _photo(seed: int, cut: bool = False) -> Image.Image:
    """A made-up fundus of its own texture; `cut`: the camera's frame cuts it above and below."""
    rng = np.random.default_rng(seed)
    grain = rng.normal(0, 18, (160, 160, 1)).repeat(3, axis=2)
    pixels = np.asarray(fundus(160, seed + 1), np.float32)
    photo = Image.fromarray((pixels + grain * (pixels > 0)).clip(0, 255).astype(np.uint8))
    if cut:
        draw = ImageDraw.Draw(photo)
        draw.rectangle((0, 0, 160, 30), fill=0)
        draw.rectangle((0, 130, 160, 160), fill=0)
    return photo


def _save(folder: Path, path: str, photo: Image.Image) -> str:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    photo.save(folder / path, quality=92)
    return path


def _row(path: str, group: str, split: str, source: str = "one") -> dict[str, str]:
    return {"path": path, "label": path.split("/")[0], "group": group, "split": split, "source": source}


def _manifest(folder: Path, cut: bool) -> list[dict[str, str]]:
    """Two classes of PHOTOS each; `cut`: the frame tells them apart."""
    rows = []
    for ill, label in enumerate(("normal", "glaucoma")):
        for number in range(PHOTOS):
            path = _save(folder, f"{label}/{number}.jpg", _photo(100 * ill + number, cut=cut and bool(ill)))
            split, source = "val" if number < 6 else "train", "one" if number % 2 else "two"
            rows.append(_row(path, f"{label}-{number // 2}", split, source))
    return rows


def _audited(folder: Path, rows: list[dict[str, str]], package: Path | None = None) -> Audit:
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return audit(read_manifest(folder / "manifest.csv"), folder, package, Progress())


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """A set with one fault of every kind."""
    folder = tmp_path_factory.mktemp("spoiled")
    rows = _manifest(folder, cut=True)
    _save(folder, "glaucoma/copy.jpg", _photo(8))
    _save(folder, "normal/other-eye.jpg", _photo(500))
    _save(folder, "drusen/1.jpg", _photo(600))
    rows += [
        _row("glaucoma/copy.jpg", "g-copy", "train"),
        _row("normal/8-again.jpg", "n-again", "val"),
        _row("normal/text.jpg", "n-text", "train"),
        _row("normal/other-eye.jpg", "normal-0", "train"),
        _row("drusen/1.jpg", "d-1", "train", source="three"),
    ]
    shutil.copy(folder / "normal" / "8.jpg", folder / "normal" / "8-again.jpg")
    (folder / "normal" / "text.jpg").write_text("no photo")
    return _audited(folder, rows)


def test_a_class_that_the_frame_gives_away_is_found(spoiled: Audit) -> None:
    best = spoiled.shortcuts[0]
    assert {"frame", "position"} & {probe.features for probe in spoiled.shortcuts}
    assert best.auroc > 0.95
    assert best.chance_high < 0.7


def test_copies_are_found_across_labels_and_splits(spoiled: Audit) -> None:
    two_labels = {frozenset(pair) for pair in spoiled.two_labels[["path_1", "path_2"]].itertuples(index=False)}
    assert frozenset(("normal/8.jpg", "glaucoma/copy.jpg")) in two_labels
    across = {frozenset(pair) for pair in spoiled.across_splits[["path_1", "path_2"]].itertuples(index=False)}
    assert frozenset(("normal/8.jpg", "normal/8-again.jpg")) in across
    same_file = spoiled.pairs[spoiled.pairs["same_file"]]
    assert ("normal/8.jpg", "normal/8-again.jpg") in set(same_file[["path_1", "path_2"]].itertuples(index=False, name=None))


def test_patients_sources_and_unreadable_files_are_found(spoiled: Audit) -> None:
    assert spoiled.crossing_groups == ["normal-0"]
    assert any("drusen" in sentence and "three" in sentence for sentence in spoiled.confounded)
    assert list(spoiled.unreadable) == ["normal/text.jpg"]
    assert "Not an image" in spoiled.unreadable["normal/text.jpg"]


def test_the_page_shows_what_was_found(spoiled: Audit) -> None:
    text = page(spoiled, "a <b>set</b>")
    assert "a &lt;b&gt;set&lt;/b&gt;" in text
    for finding in findings(spoiled):
        assert f'id="{finding.section}"' in text
    assert text.count("data:image/jpeg;base64,") >= 2 * len(spoiled.pairs)
    assert "http://" not in text
    assert "https://" not in text


def test_a_sound_set_has_no_bad_finding(tmp_path: Path) -> None:
    audited = _audited(tmp_path, _manifest(tmp_path, cut=False))
    assert [finding.text for finding in findings(audited) if finding.bad] == []


def test_labels_by_lot_are_told_by_nothing() -> None:
    rng = np.random.default_rng(5)
    features = {"colour": rng.normal(size=(400, 6)), "size": rng.normal(size=(400, 3))}
    probes = list(probe_classes(features, rng.permutation(["ill", "well"] * 200), np.arange(400).astype(str)))
    assert len(probes) == 4
    assert not any(probe.tells for probe in probes)
    assert all(probe.auroc < 0.65 for probe in probes)


def test_classes_too_small_to_probe_are_left_out() -> None:
    features = {"colour": np.zeros((20, 2))}
    labels = np.array(["ill"] * 3 + ["well"] * 17)
    assert list(probe_classes(features, labels, np.arange(20).astype(str))) == []


def test_a_model_names_the_labels_that_it_contradicts(tmp_path: Path) -> None:
    for label in ("cataract", "normal"):
        (tmp_path / label).mkdir()
        shutil.copy(SAMPLES / "canary.jpg", tmp_path / label / "canary.jpg")
    (tmp_path / "normal" / "cat.jpg").write_bytes((SAMPLES / "not_a_fundus_cat.jpg").read_bytes())
    audited = audit(of_folder(tmp_path), tmp_path, PACKAGE, Progress())
    assert audited.contradictions is not None
    assert audited.ungradable is not None
    assert set(audited.contradictions["label"]) <= {"cataract", "normal"}
    assert (audited.contradictions["predicted_class"] != audited.contradictions["label"]).all()
    assert (audited.contradictions["confidence"] >= 0.9).all()
    assert "normal/cat.jpg" in set(audited.rows["path"].iloc[audited.ungradable])


def test_a_set_without_patients_says_so(tmp_path: Path) -> None:
    for number in range(4):
        _save(tmp_path, f"normal/{number}.jpg", _photo(number))
        _save(tmp_path, f"glaucoma/{number}.jpg", _photo(50 + number))
    output = [finding.text for finding in findings(audit(of_folder(tmp_path), tmp_path, None, Progress()))]
    assert any("no column `group`" in text for text in output)
