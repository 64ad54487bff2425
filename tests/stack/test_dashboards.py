"""Alert rules and dashboard: no query asks for what the exporter does not export, and the rules fire when they should."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from eye_disease.monitoring.exporter import LogCollector
from eye_disease.records.storage import Storage
from tests.support.logs import MODEL, append, failed, record
from tests.support.servers import PROJECT

RULES = PROJECT / "deploy" / "prometheus" / "alerts.yml"
CONFIGURATION = PROJECT / "deploy" / "prometheus" / "prometheus.yml"
DASHBOARD = PROJECT / "deploy" / "grafana" / "eye-disease.json"
_METRIC = re.compile(r"\b(eye_\w+)\s*(\{[^}]*\})?")
_PROMETHEUS_ITSELF = {"job", "instance", "le"}


def _rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def _targets() -> list[dict[str, Any]]:
    return [target for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]]


def _variables() -> dict[str, str]:
    listed = json.loads(DASHBOARD.read_text())["templating"]["list"]
    return {one["name"]: one["query"] for one in listed if one["type"] == "query"}


def _plain(expression: str) -> str:
    """As Grafana sends it."""
    for name, value in {"$__rate_interval": "5m", "$model": ".*", "$version": ".*"}.items():
        expression = expression.replace(name, value)
    return expression


QUERIES = [rule["expr"] for rule in _rules()] + [_plain(target["expr"]) for target in _targets()]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Sample -> its labels, of what the exporter says of a log with everything in it."""
    folder = tmp_path_factory.mktemp("log")
    append(folder / MODEL / "1", record(0, lost_records=1), failed(1))
    with next((folder / MODEL / "1").glob("*.jsonl")).open("a") as sink:
        sink.write("no record\n")
    registry = CollectorRegistry()
    registry.register(LogCollector(Storage(str(folder)), lambda: {(MODEL, "1"): "drift"}))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


@pytest.mark.parametrize("query", [*QUERIES, *_variables().values()])
def test_every_query_asks_for_what_is_exported(query: str, exported: dict[str, set[str]]) -> None:
    asked = [(name, selector or "") for name, selector in _METRIC.findall(query)]
    assert asked or "up{" in query
    for name, selector in asked:
        assert name in exported, query
        assert set(re.findall(r"(\w+)\s*!?=~?\s*\"", selector)) <= exported[name], query
    known = set().union(*(exported[name] for name, _ in asked)) | _PROMETHEUS_ITSELF
    grouped = {
        label.strip() for listed in re.findall(r"\b(?:by|on|ignoring)\s*\(([^)]*)\)", query) for label in listed.split(",")
    }
    assert grouped <= known, query


def test_the_check_notices_a_name_that_is_not_exported(exported: dict[str, set[str]]) -> None:
    with pytest.raises(AssertionError):
        test_every_query_asks_for_what_is_exported('eye_prediction_total{class="normal"}', exported)
    with pytest.raises(AssertionError):
        test_every_query_asks_for_what_is_exported('eye_predictions_total{site="a"}', exported)


def test_legends_and_messages_name_labels_that_the_query_keeps(exported: dict[str, set[str]]) -> None:
    for target in _targets():
        for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
            kept = re.findall(r"by \(([^)]*)\)", target["expr"])
            assert any(label in one for one in kept) or "by (" not in target["expr"], target
    for rule in _rules():
        assert rule["annotations"].keys() == {"summary", "action"}, rule["alert"]


def test_every_metric_is_on_the_dashboard(exported: dict[str, set[str]]) -> None:
    shown = {name for target in _targets() for name, _ in _METRIC.findall(target["expr"])}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported}
    assert families == {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}


def test_panels_do_not_overlap_and_say_their_source() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    cells = [
        (x, y)
        for panel in dashboard["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert all(target["datasource"]["uid"] == "${source}" for target in _targets())


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs promtool (Debian and Ubuntu: apt install prometheus)")
    return found


def _ends_well(*command: str | Path, cwd: Path = PROJECT) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_configuration_and_the_rules(promtool: str) -> None:
    _ends_well(promtool, "check", "config", CONFIGURATION)  # and the rules that it names


def test_the_alerts_fire_when_they_should(promtool: str, tmp_path: Path) -> None:
    shutil.copy2(RULES, tmp_path)
    shutil.copy2(PROJECT / "tests" / "stack" / "alerts_test.yml", tmp_path)
    _ends_well(promtool, "test", "rules", "alerts_test.yml", cwd=tmp_path)


def test_prometheus_understands_every_panel(promtool: str, tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": _plain(target["expr"])} for n, target in enumerate(_targets())]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    _ends_well(promtool, "check", "rules", "panels.yml", cwd=tmp_path)


def test_the_job_scraped_is_the_stacks() -> None:
    (scraped,) = yaml.safe_load(CONFIGURATION.read_text())["scrape_configs"]
    (target,) = scraped["static_configs"][0]["targets"]
    service, _, port = target.partition(":")
    stack = yaml.safe_load((PROJECT / "deploy" / "docker-compose.yml").read_text())["services"]
    assert stack[service]["command"][-2:] == ["--metrics-port", port]
    assert 'job="eye-disease"' in RULES.read_text()
    assert scraped["job_name"] == "eye-disease"
