"""The report: one page that needs nothing else, holds its plots, and can be read on a phone; seen by a real browser."""

import re
import shutil
import subprocess
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from eye_disease.evaluation.shares import Share
from eye_disease.monitoring.alarm import AlarmState
from eye_disease.monitoring.judged_window import Findings
from eye_disease.monitoring.report import REPORT_FILE, make_report
from eye_disease.monitoring.version_state import KEPT_WINDOWS, MERGED, PastWindow
from eye_disease.profiles.layout import EMBEDDING, Layout
from eye_disease.profiles.profile import Profile
from eye_disease.profiles.reference import Reference
from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.realised import RealisedPerformance
from eye_disease.verdict.since import Since
from eye_disease.verdict.verdict import judge
from tests.support.drift_records import CLASSES, START, make_errors, make_records

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SITES = ("clinic-a", "<script>document.title='bad'</script>", "$\\frac{", "診療所", "x" * 300, None)
PLOTS = {"class_mix", "confidence", "calibration", "latency", "image_quality", "drift", "sites"}


def _records(n: int, seed: int, **changes: Any) -> pa.Table:
    return make_records(n, seed, **changes).drop_columns(list(EMBEDDING))


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.build(_records(200, seed=1), CLASSES, "validation", "eye")


def _findings(records: pa.Table, reference: Reference | None, windows: int = 1, **changes: Any) -> Findings:
    profile = Profile.from_table(records, reference.layout if reference else Layout.generic(CLASSES))
    verdict = judge(profile, reference, DriftLimits())
    history = tuple(PastWindow.of(i, verdict, profile.whole.mean_confidence, START) for i in range(1, windows + 1))
    known: dict[str, Any] = {
        "model": "eye",
        "version": "3",
        "number": windows,
        "judged": START,
        "verdict": verdict,
        "profile": profile,
        "reference": reference,
        "alarm": AlarmState(),
        "event": None,
        "realised": None,
        "health": None,
        "load_time_seconds": 0.4,
        "history": history,
        "notes": (),
    }
    return Findings(**known | changes)


@pytest.fixture(scope="module")
def full(reference: Reference) -> dict[str, bytes]:
    """Of a drifted window with sites of every kind, labels, and as much history as there can be."""
    realised = RealisedPerformance(20, 17, Share.of(np.arange(20) < 17), {"normal": Share.of(np.arange(10) < 9)}, 0.05, 0)
    records = _records(600, seed=2, sites=SITES, sharpness=0.5)
    notes = ("Judged against <b>production</b> data.",)
    return make_report(_findings(records, reference, KEPT_WINDOWS, realised=realised, notes=notes, event="raise"))


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag


def test_one_small_page_that_needs_nothing_else(full: dict[str, bytes]) -> None:
    page = full[REPORT_FILE]
    assert len(page) < 1_000_000
    tags = Page(page.decode()).tags
    names = [name for name, _ in tags]
    assert not {"script", "link", "img", "iframe", "object"} & set(names)
    assert names.count("svg") == len(PLOTS)
    links = [value for _, tag in tags for name, value in tag.items() if name in ("href", "xlink:href", "src")]
    assert all(link and link.startswith("#") for link in links)
    ids = [tag["id"] for _, tag in tags if "id" in tag]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links if link} <= set(ids)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in tags


def test_it_says_what_it_is_and_what_to_do(full: dict[str, bytes]) -> None:
    page = full[REPORT_FILE].decode()
    assert "acquisition shift" in page
    assert "Check camera, light, operator and export" in page
    assert "For research. Not a medical device, and not for diagnosis." in page
    assert "Reference: validation." in page
    assert "Judged against &lt;b&gt;production&lt;/b&gt; data." in page


def test_the_plots_are_files_of_their_own_and_the_page_of_an_alarm_stays(full: dict[str, bytes]) -> None:
    pictures = {path.removeprefix("plots/").removesuffix(".png") for path in full if path.endswith(".png")}
    assert pictures == PLOTS
    assert all(full[f"plots/{name}.png"].startswith(b"\x89PNG") for name in pictures)
    assert full[f"raised/window-{KEPT_WINDOWS:06d}.html"] == full[REPORT_FILE]


def test_the_page_and_the_plot_of_the_statistics_say_since_when(reference: Reference) -> None:
    findings = _findings(_records(200, seed=3, sharpness=0.6), reference, windows=20)
    since = Since(12, START, 10, 13, START - timedelta(hours=2), START + timedelta(hours=1))
    history = tuple(replace(past, figures={**past.figures, MERGED: (past.number / 12, 1.0)}) for past in findings.history)
    findings = replace(findings, verdict=replace(findings.verdict, since=since), history=history)
    page = make_report(findings)[REPORT_FILE].decode()
    assert f"(acquisition shift), {since}: " in page
    plot = page.partition("Drift statistics over time")[2].partition("</svg>")[0]
    assert since.about in plot
    assert MERGED in plot


@pytest.mark.parametrize(
    ("records", "compared"),
    [(make_errors(60).slice(0, 0), False), (make_errors(60), True), (_records(1, seed=4), False)],
    ids=["empty", "errors", "one"],
)
def test_a_report_of_next_to_nothing(reference: Reference, records: pa.Table, compared: bool) -> None:
    made = make_report(_findings(records, reference if compared else None))
    assert "Not a medical device" in made[REPORT_FILE].decode()
    assert not any(path.startswith("raised/") for path in made)


def _browse(page: Path, width: int, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}"]
    command += [f"--window-size={width},900", "--enable-logging=stderr", "--virtual-time-budget=2000", *options]
    return subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the PATH to look at the page")
@pytest.mark.parametrize("width", [360, 1200])
def test_a_browser_shows_it_without_an_error(full: dict[str, bytes], tmp_path: Path, width: int) -> None:
    """In a frame as wide as a phone, or a desktop: nothing sticks out, every plot has a size, no script has run or failed."""
    (tmp_path / REPORT_FILE).write_bytes(full[REPORT_FILE])
    probe = """
    const frame = document.querySelector("iframe"), page = frame.contentDocument;
    const boxes = [...page.querySelectorAll("figure > svg")].map(one => one.getBoundingClientRect());
    const drawn = [...page.querySelectorAll("figure > svg")].map(one => one.querySelectorAll("path, use").length);
    const found = {
        title: page.title, wide: page.documentElement.scrollWidth, plots: boxes.length,
        smallest: Math.min(...boxes.map(box => Math.min(box.width, box.height))),
        right: Math.max(...boxes.map(box => box.right)), drawn: Math.min(...drawn),
    };
    document.body.textContent = "FOUND " + Object.entries(found).map(pair => pair.join("=")).join("; ");
    """
    frame = f'<iframe style="width:{width}px;height:900px;border:0" src="{REPORT_FILE}"></iframe>'
    host = tmp_path / "host.html"
    host.write_text(f"<!DOCTYPE html><body>{frame}<script>window.onload = () => {{ {probe} }}</script></body>")
    done = _browse(host, 1400, tmp_path / "profile", "--dump-dom", "--allow-file-access-from-files")
    match = re.search(r"FOUND (.*?)<", done.stdout)
    assert match is not None, (done.stdout[-500:], done.stderr[-2000:])
    result = dict(part.split("=", 1) for part in match[1].split("; "))
    assert result["title"] == "eye version 3: drift"
    assert int(result["plots"]) == len(PLOTS)
    assert int(result["wide"]) <= width
    assert float(result["right"]) <= width
    assert float(result["smallest"]) > 80
    assert int(result["drawn"]) > 5
    assert "CONSOLE" not in done.stderr
