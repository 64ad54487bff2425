"""`drift_job.py worklist`: answers that a specialist should look at, as one local page."""

import argparse
from datetime import UTC, datetime, timedelta
from functools import partial
from secrets import randbits

from eye_disease.common.progress import Progress
from eye_disease.monitoring.settings import MonitoringSettings
from eye_disease.monitoring.version_state import Memories
from eye_disease.records.storage import Storage
from eye_disease.records.store import find_stores
from eye_disease.worklist.build import build
from eye_disease.worklist.heatmaps import registered_heatmaps


def worklist(arguments: argparse.Namespace, settings: MonitoringSettings) -> None:
    """Write the page and say what is on it."""
    log, memories = Storage(settings.inference_log), Memories(settings.state_dir)
    versions = [store.version for store in find_stores(log) if store.model == arguments.name]
    drifted = {(version, site) for version in versions for site in memories.read(arguments.name, version).sites}
    since = datetime.now(UTC) - timedelta(seconds=arguments.since)
    heatmaps_of = partial(registered_heatmaps, arguments.name, mlflow_timeout_seconds=settings.mlflow_timeout_seconds)
    result = build(
        log, arguments.name, arguments.photos, since, arguments.limit, heatmaps_of, randbits(32), drifted, Progress()
    )
    arguments.output.write_text(result.html, encoding="utf-8")
    print(f"{arguments.output}: {result.photos} of {result.candidates} photos, {result.by_lot} of them drawn by lot.")
    if result.without_heatmap:
        print(f"Without a heatmap: {result.without_heatmap}")
    print("Open it in a browser, save the labels (key s), then: python drift_job.py feedback --file labels.csv --by ROLE")
