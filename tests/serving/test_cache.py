"""Copies of model versions: whatever is damaged is named, set aside, and costs only itself."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eye_disease.serving.cache import ModelCache

KEY = "3-0123456789ab"


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    """With one copy, the last good one of Production."""
    cache = ModelCache(tmp_path / "eye")
    _add(cache)
    cache.remember("Production", KEY, "3")
    return cache


def _add(cache: ModelCache, key: str = KEY) -> Path:
    with cache.incoming() as folder:
        (folder / "model" / "code").mkdir(parents=True)
        (folder / "model" / "MLmodel").write_text("flavors: {}")
        (folder / "model" / "code" / "classifier.py").write_text("ANSWER = 42\n" * 100)
        return cache.add(key, folder / "model")


def _gone(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _garbage(path: Path) -> None:
    path.write_bytes(b"\xff\x00\xfe" * 50)


def _folder(path: Path) -> None:
    """What no permission can do to a file happens to a folder in its place, whoever runs this."""
    path.unlink()
    path.mkdir()


def _of_the_future(path: Path) -> None:
    path.write_text(json.dumps({"format": 99, "copies": [1, 2]}))


Damage = Callable[[Path], None]
DAMAGES = [_gone, _empty, _half, _garbage, _folder, _of_the_future]


def test_a_whole_copy_is_found_in_silence(cache: ModelCache, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "eye" / KEY / "code" / "__pycache__").mkdir()
    (tmp_path / "eye" / KEY / "code" / "__pycache__" / "classifier.pyc").write_bytes(b"compiled")
    assert cache.find(KEY) == tmp_path / "eye" / KEY
    good = cache.last_good("Production")
    assert good is not None
    assert (good.folder, good.version) == (tmp_path / "eye" / KEY, "3")
    assert cache.last_good("Staging") is None
    assert caplog.text == ""


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["MLmodel", "code/classifier.py"])
def test_a_damaged_copy_is_set_aside_and_made_again(
    cache: ModelCache, tmp_path: Path, file: str, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    damage(tmp_path / "eye" / KEY / file)
    assert cache.last_good("Production") is None
    assert str(tmp_path / "eye" / KEY) in caplog.text
    assert f"set aside as {KEY}.damaged" in caplog.text
    assert cache.find(KEY) is None
    assert _add(cache) == cache.find(KEY) == tmp_path / "eye" / KEY
    good = cache.last_good("Production")
    assert good is not None
    assert good.folder == tmp_path / "eye" / KEY
    damage(tmp_path / "eye" / KEY / file)  # what is set aside does not pile up
    assert cache.find(KEY) is None
    assert len(list((tmp_path / "eye").glob("*.damaged"))) == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_pointer_costs_nothing(
    cache: ModelCache, tmp_path: Path, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    pointer = tmp_path / "eye" / "last_good.json"
    damage(pointer)
    good = cache.last_good("Production")
    assert good is not None
    assert (good.folder.name, good.version) == (KEY, "3")
    assert ("last_good.json is damaged" in caplog.text) == (damage is not _gone)
    cache.remember("Production", KEY, "3")
    assert json.loads(pointer.read_text())["folder"] == KEY


def test_a_pointer_out_of_the_cache_is_not_followed(cache: ModelCache, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "eye" / KEY, tmp_path / "elsewhere")
    for pointer in ("last_good.json", ".last_good.json"):
        (tmp_path / "eye" / pointer).write_text(json.dumps({"folder": "../elsewhere", "version": "9"}))
    assert cache.last_good("Production") is None


def test_a_pointer_of_an_earlier_release_is_read(cache: ModelCache, tmp_path: Path) -> None:
    (tmp_path / "eye" / ".last_good.json").unlink()
    (tmp_path / "eye" / "last_good.json").write_text(json.dumps({"folder": KEY, "version": "3"}))
    good = cache.last_good("Production")
    assert good is not None
    assert good.version == "3"


def test_a_file_in_the_place_of_a_copy_is_set_aside(cache: ModelCache, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "eye" / KEY)
    (tmp_path / "eye" / KEY).write_text("not a folder")
    assert cache.find(KEY) is None
    assert _add(cache) == tmp_path / "eye" / KEY


def test_a_cache_that_cannot_be_used_costs_only_its_use(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "eye").write_text("a file where the cache should be")
    cache = ModelCache(tmp_path / "eye")
    assert cache.find(KEY) is None
    assert cache.last_good("Production") is None
    served = _add(cache)
    assert (served / "MLmodel").read_text() == "flavors: {}"
    cache.remember("Production", KEY, "3")
    assert str(tmp_path / "eye") in caplog.text
    shutil.rmtree(served.parent)


def test_two_at_once_keep_one_copy(cache: ModelCache, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert _add(cache) == cache.find(KEY)
    assert caplog.text == ""


def test_a_download_that_was_left_behind_is_removed(cache: ModelCache, tmp_path: Path) -> None:
    old, new = tmp_path / "eye" / "incoming-old", tmp_path / "eye" / "incoming-new"
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (0, 0))
    _add(cache, "4-0123456789ab")
    assert (old.exists(), new.exists()) == (False, True)
