"""What is kept of the newest windows: exact, bounded, of one reference, and never more than was judged."""

import json
import logging
from datetime import timedelta
from functools import reduce
from operator import add
from pathlib import Path

import pytest

from eye_disease.monitoring.recent_windows import RecentWindows
from eye_disease.profiles.layout import Layout
from eye_disease.profiles.profile import Profile
from eye_disease.verdict.lasting import MAX_WINDOWS, Recent, RecentWindow
from eye_disease.verdict.since import Since
from tests.support.drift_records import CLASSES, START, make_records

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")
LAYOUT = Layout.fit(make_records(300, seed=1), CLASSES)
SINCE = Since(2, START, 1, 3, START - timedelta(hours=1), START + timedelta(hours=1))


def windows(count: int, first: int = 1) -> tuple[RecentWindow, ...]:
    made = (make_records(60, seed=first + i, sites=("a", "b")) for i in range(count))
    return tuple(RecentWindow(first + i, Profile.from_table(records, LAYOUT).whole) for i, records in enumerate(made))


def test_what_is_kept_merges_to_what_the_records_themselves_give(tmp_path: Path) -> None:
    stored = RecentWindows(tmp_path)
    stored.save("m", "1", LAYOUT, Recent(windows(5), SINCE))
    recent = stored.read("m", "1", LAYOUT, judged=5)
    assert recent.since == SINCE
    assert [window.number for window in recent.windows] == [1, 2, 3, 4, 5]
    together = reduce(add, (window.tally for window in recent.windows))
    expected = reduce(Profile.merge, (Profile.from_table(make_records(60, seed=i), LAYOUT) for i in range(1, 6))).whole
    assert together.to_json() == expected.to_json()


def test_a_version_without_a_file_has_none(tmp_path: Path) -> None:
    assert RecentWindows(tmp_path).read("m", "1", LAYOUT, judged=70) == Recent()


def test_the_file_stays_small_however_many_windows_come(tmp_path: Path) -> None:
    stored = RecentWindows(tmp_path)
    (window,) = windows(1)
    many = tuple(RecentWindow(i, window.tally) for i in range(1, 3 * MAX_WINDOWS))
    stored.save("m", "1", LAYOUT, Recent(many))
    recent = stored.read("m", "1", LAYOUT, judged=3 * MAX_WINDOWS)
    assert [window.number for window in recent.windows] == [window.number for window in many[-MAX_WINDOWS:]]
    assert (tmp_path / "recent" / "m" / "1.windows.json").stat().st_size < 1_000_000


def test_a_window_that_a_killed_run_has_added_is_not_known(tmp_path: Path) -> None:
    stored = RecentWindows(tmp_path)
    stored.save("m", "1", LAYOUT, Recent(windows(5), SINCE))
    recent = stored.read("m", "1", LAYOUT, judged=4)
    assert [window.number for window in recent.windows] == [1, 2, 3, 4]
    assert recent.since is None
    assert stored.read("m", "1", LAYOUT, judged=0) == Recent()


def test_windows_of_another_reference_are_not_compared_with_this_one(tmp_path: Path) -> None:
    stored = RecentWindows(tmp_path)
    stored.save("m", "1", LAYOUT, Recent(windows(3)))
    assert stored.read("m", "1", Layout.generic(CLASSES), judged=3) == Recent()
    assert (tmp_path / "recent" / "m" / "1.windows.json").exists()


@pytest.mark.parametrize("change", [{"histograms": [[1]]}, {"classes": "x"}, {"first": "yesterday"}, None])
def test_a_damaged_window_costs_the_memory_and_nothing_else(
    tmp_path: Path, change: dict[str, object] | None, caplog: pytest.LogCaptureFixture
) -> None:
    recent_windows = RecentWindows(tmp_path)
    recent_windows.save("m", "1", LAYOUT, Recent(windows(2)))
    path = tmp_path / "recent" / "m" / "1.windows.json"
    stored = json.loads(path.read_text())
    stored["windows"][1] = {"number": 2, "tally": stored["windows"][1]["tally"] | change} if change else {"number": 2}
    path.write_text(json.dumps(stored))
    with caplog.at_level(logging.ERROR):
        assert recent_windows.read("m", "1", LAYOUT, judged=2) == Recent()
    assert "1.windows.json is damaged" in caplog.text
    assert (tmp_path / "recent" / "m" / "1.windows.json.damaged").exists()
    assert not path.exists()
