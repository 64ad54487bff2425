"""MLflow's pages at the addresses that are printed, as a browser shows them."""

from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from eye_disease.cli import pages
from eye_disease.common.mlflow_client import experiment_page, model_page, run_page
from eye_disease.monitoring.metrics import Point
from eye_disease.monitoring.mlflow_writer import MlflowWriter
from eye_disease.monitoring.spool import Batch, Spool
from tests.support.browser import look, needs_chromium
from tests.support.servers import Served

GREEN = (10, 170, 120)
REPORT = f"<!DOCTYPE html><body style='background: rgb{GREEN}'>the report</body>".encode()
CHECKS = b"level,site,stream,statistic\nok,all,sharpness,ks\n"


def test_addresses_hold_no_password_and_any_name() -> None:
    server = "http://eve:hunter2@127.0.0.1:5000/"
    assert experiment_page(server, "1") == "http://127.0.0.1:5000/#/experiments/1?workflowType=machine_learning"
    page = "/#/experiments/1/runs/ab/artifacts/report.html?workflowType=machine_learning"
    assert run_page(server, "1", "ab", "report.html").endswith(page)
    assert model_page(server, "my model/2", "3").endswith("/#/models/my%20model%2F2/versions/3?workflowType=machine_learning")


@needs_chromium
def test_a_browser_lands_where_runs_models_and_reports_are(
    tracking: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"eye-{uuid4().hex[:8]}"
    client, writer = MlflowClient(tracking.url), MlflowWriter(MlflowClient(tracking.url), name, 20)
    spool = Spool(tmp_path / "spool")
    points = [Point(f"drift/{stream}", 0.5, 1_772_366_400_000, 1) for stream in ("sharpness", "confidence")]
    spool.put(Batch(f"{name}-1", name, "1"), points, {"report.html": REPORT, "checks.csv": CHECKS})
    assert spool.send(writer, 60) == 0
    run_id = writer.run_id(name, "1")
    client.create_registered_model(name)
    client.create_model_version(name, f"runs:/{run_id}/model", run_id)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.url)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    monkeypatch.setattr("sys.argv", ["eye-disease pages", "--name", name])
    pages.main()
    runs, model, report = (line.split()[-1] for line in capsys.readouterr().out.splitlines())
    checks = report.replace("report.html", "checks.csv")
    seen = look({"runs": runs, "model": model, "report": report, "checks": checks}, tmp_path)

    assert f"monitoring {name} 1" in seen["runs"].text
    assert "Run Name" in seen["runs"].text
    assert f"Model: {name}" in seen["model"].text
    assert "Version 1" in seen["model"].text
    assert "sharpness" in seen["checks"].text
    with Image.open(seen["report"].picture) as picture:
        green = np.abs(np.asarray(picture.convert("RGB"), int) - GREEN).max(axis=-1) < 8
    assert green.mean() > 0.1
    assert client.get_experiment_by_name(name).tags["mlflow.experimentKind"] == "custom_model_development"
    for outcome in seen.values():
        with Image.open(outcome.picture) as picture:
            assert len(picture.convert("L").getcolors() or []) > 20, "an empty page"
