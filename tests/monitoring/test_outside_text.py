"""Names that clients, models and other servers have chosen, followed to everybody who reads them."""

import io
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from eye_disease.monitoring.action_rules import Request
from eye_disease.monitoring.actions import ActionOutcome
from eye_disease.monitoring.alarm import AlarmState
from eye_disease.monitoring.exporter import LogCollector
from eye_disease.monitoring.job import Outcome
from eye_disease.monitoring.judged_window import Findings
from eye_disease.monitoring.live_table import watch
from eye_disease.monitoring.publish import action_alert, action_batch, make_alert, make_batch
from eye_disease.monitoring.report import REPORT_FILE, make_report
from eye_disease.monitoring.version_state import PastWindow
from eye_disease.profiles.layout import EMBEDDING, Layout
from eye_disease.profiles.profile import Profile
from eye_disease.profiles.reference import Reference
from eye_disease.records.recent import LogTail
from eye_disease.records.storage import Storage
from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.service import Health
from eye_disease.verdict.verdict import judge
from tests.support.drift_records import CLASSES, START, make_records
from tests.support.logs import append, failed, record

EVIL = (
    "a\n2026-01-01Z eye version 1: ok",
    "\x1b[2J\x1b]0;owned\x07",
    "\u202egnp\u2066",
    "[free](http://evil.example)",
    "<img src=http://evil.example onerror=alert(1)>",
    "![x](http://evil.example/p.png)",
    "`$(reboot)` <!channel> @everyone",
    "x" * 5_000,
)
LINES = 12
"""That a person is told in one text, at most."""


def _is_readable(text: str, lines: int = LINES) -> None:
    assert text.count("\n") < lines, text
    assert {unicodedata.category(char) for char in text if char != "\n"}.isdisjoint({"Cc", "Cf", "Zl", "Zp", "Cs", "Co"})


def _is_harmless(text: str, lines: int = LINES) -> None:
    _is_readable(text, lines)
    assert not re.search(r"\]\(|<\w|<!|@everyone|`|http://evil|x{500}", text), text


def _records(n: int, seed: int, **changes: object) -> pa.Table:
    return make_records(n, seed, **changes).drop_columns(list(EMBEDDING))


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.build(_records(200, seed=1), CLASSES, EVIL[3], "eye")


def _findings(evil: str, reference: Reference | None, health: Health | None) -> Findings:
    records = _records(200, seed=2, sites=(evil, f"{evil} 2"), sharpness=0.5)
    profile = Profile.from_table(records, reference.layout if reference else Layout.generic(CLASSES))
    verdict = judge(profile, reference, DriftLimits(), health)
    past = PastWindow.of(1, verdict, profile.whole.mean_confidence, START)
    return Findings(evil, evil, 1, START, verdict, profile, reference, AlarmState(), "raise", None, health, 0.4, (past,), ())


@pytest.mark.parametrize("evil", EVIL)
def test_a_site_a_model_and_a_servers_answer_reach_nobody_raw(reference: Reference, evil: str) -> None:
    texts, sites = [], 0
    for known, health in ((reference, None), (None, Health(False, f"The answer is wrong: class is {evil!r}.", 1.0, evil))):
        findings = _findings(evil, known, health)
        assert findings.verdict.status == "drift"
        sites += len(findings.verdict.sites)
        _is_readable(str(Outcome(evil, evil, None, f"not judged: {evil}")))
        alert, batch = make_alert(findings), make_batch(findings)
        assert alert is not None
        texts += [str(Outcome(evil, evil, findings)), alert.title, alert.body]
        texts += [*batch.run_tags.values(), *batch.version_tags.values()]
        assert batch.note is not None
        texts.append(batch.note.replace("**drift**", "drift", 1))
        request = Request("command", evil, evil, 1, str(findings.verdict.reasons[0]))
        report = ActionOutcome(request, "done", "It succeeded.")
        ended = action_alert(report)
        assert ended is not None
        texts += [ended.title, ended.body, *action_batch(report, START).run_tags.values()]
    for text in texts:
        _is_harmless(text)
    assert sites == 2


def test_the_report_shows_names_and_follows_none(reference: Reference) -> None:
    for evil in EVIL[3:6]:
        page = make_report(_findings(evil, reference, None))[REPORT_FILE].decode()
        assert not re.search(r"<img|onerror=alert\(1\)>|\]\(http", page)
        assert "evil.example" in page


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Of a model whose classes, decisions and codes are as bad as names can be, and two that look the same."""
    names = [*(evil[:300] for evil in EVIL), "a\u200b2026-01-01Z eye version 1: ok", 7]
    folder = tmp_path / "e<vil> [x](y)" / "1"
    append(folder, *(record(n, predicted_class=name, decision=name) for n, name in enumerate(names)), failed(99, EVIL[0]))
    return tmp_path


def test_every_label_is_one_that_is_read_and_stands_once(log: Path) -> None:
    registry = CollectorRegistry()
    registry.register(LogCollector(Storage(str(log)), lambda: {("e<vil> [x](y)", "1"): "ok"}))
    samples = [
        sample for family in text_string_to_metric_families(generate_latest(registry).decode()) for sample in family.samples
    ]
    keys = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in samples]
    assert len(keys) == len(set(keys))
    assert sum(sample.value for sample in samples if sample.name == "eye_predictions_total") == len(EVIL) + 2
    for sample in samples:
        for label in sample.labels.values():
            _is_harmless(label, lines=1)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def shown(log: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import threading

    out, stop = Terminal(), threading.Event()
    stop.set()
    watch(Storage(str(log)), lambda: {}, stop, out=out)
    yield out.getvalue()


def test_the_terminal_is_steered_by_the_program_alone(shown: str) -> None:
    own = re.sub(r"\x1b\[(H|J|K|0m|3[123]m)", "", shown)
    _is_harmless(own)
    assert len(own.splitlines()) == 6  # title, blank, head, one version, blank, how it ends


def test_records_of_such_names_are_read(log: Path) -> None:
    tail = LogTail(Storage(str(log)))
    tail.poll()
    assert [numbers.unreadable_lines for numbers in tail.numbers.values()] == [0]
