"""The loop after deployment, told by the steps of benchmarks/story.py, each of which fails if it does not do what it says.

Afterwards registry, monitoring and records are looked at by themselves.
"""

from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from benchmarks.story import tell
from benchmarks.story_photos import Scale
from benchmarks.story_steps import FORCED, ROLLED_BACK, STEPS, Step
from benchmarks.story_world import EXPERIMENT, NAME, StoryError, World, expect
from eye_disease.registry.history.store import History
from tests.conftest import PHOTOS
from tests.support.proxies import needs_nginx
from tests.support.servers import Served, environment

SMALL = Scale(learned=48, training={"epochs": 1, "learning_rate": 1e-5})


@needs_nginx
def test_from_the_first_version_to_the_roll_back_of_a_bad_one(
    tracking: Served, real_photos: pd.DataFrame, tmp_path: Path
) -> None:
    said: list[str] = []
    with World(tmp_path, PHOTOS, SMALL, environment(MLFLOW_TRACKING_URI=tracking.url)) as world:
        tell(world, said.append)
        assert world.decision == "promote"
    assert sum(line.startswith(f"{n}. ") for n, _ in enumerate(STEPS, start=1) for line in said) == len(STEPS)
    client = MlflowClient(tracking.url, tracking.url)
    _look_at_the_history(client)
    _look_at_the_monitoring(client)


def _look_at_the_history(client: MlflowClient) -> None:
    steps = History(client, NAME).records()
    assert [(one.kind, one.version, one.source, one.target, one.state) for one in steps] == [
        ("promote", "1", "None", "Production", "done"),
        ("promote", "2", "None", "Staging", "done"),
        ("promote", "2", "Staging", "Production", "done"),
        ("promote", "3", "None", "Staging", "done"),
        ("force", "3", "Staging", "Production", "done"),
        ("rollback", "2", "Archived", "Production", "done"),
    ]
    assert [one.replaced for one in steps] == [(), (), ("1",), (), ("2",), ("3",)]
    assert steps[2].reason == "shadow on 340 labelled photos: promote"
    assert steps[3].reason.startswith("refused for Production: ")
    assert steps[4].reason.startswith(f"{FORCED} (the gate refused: ")
    assert "recall of cataract" in steps[4].reason
    assert steps[5].reason == ROLLED_BACK
    gates = [one.evidence for one in steps if one.target == "Production" and one.kind != "rollback"]
    assert all(client.get_run(one).info.status == "FINISHED" for one in gates)
    assert len(set(gates)) == 3
    stages = {one.version: one.current_stage for one in client.search_model_versions(f"name = '{NAME}'")}
    assert {str(number): stage for number, stage in stages.items()} == {"1": "Archived", "2": "Production", "3": "Archived"}


def _look_at_the_monitoring(client: MlflowClient) -> None:
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id

    def detected(version: str) -> list[float]:
        (found,) = client.search_runs([experiment], f"tags.`monitoring.version` = '{version}'")
        return [point.value for point in client.get_metric_history(found.info.run_id, "drift_detected")]

    assert (detected("1"), detected("2")) == ([0, 1, 1, 0], [0])


def test_a_step_that_does_not_do_what_it_says_ends_the_story(
    tracking: Served, real_photos: pd.DataFrame, tmp_path: Path
) -> None:
    world = World(tmp_path, PHOTOS, SMALL, environment(MLFLOW_TRACKING_URI=tracking.url))

    def rolls_back_nothing(world: World) -> list[str]:
        return world.register("rollback", "--version", "99").splitlines()

    def expects_wrongly(world: World) -> list[str]:
        expect(world.answers, "Nobody was answered.")
        return []

    for act, why in ((rolls_back_nothing, r"register\.py rollback .*exit status 1"), (expects_wrongly, "Nobody was answered")):
        with pytest.raises(StoryError, match=why):
            tell(world, lambda line: None, [Step("It works", act)])
