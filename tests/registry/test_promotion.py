"""Promotion, roll back and their records on a sqlite registry."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, RESOURCE_DOES_NOT_EXIST

from eye_disease.registry.gate.gate import GateError
from eye_disease.registry.history import lock as promotion_lock
from eye_disease.registry.history.lock import LockedError, locked
from eye_disease.registry.history.store import History
from eye_disease.registry.history.view import review
from eye_disease.registry.promotion import RefusedError, promote, rollback
from eye_disease.registry.versions import (
    StageError,
    VersionError,
    in_stage,
    list_versions,
    read_registry,
    version_in_production,
)
from tests.support.versions import make_versions, passed, passes_fetched, refused

pytestmark = pytest.mark.slow

NAME = "eye_model"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new sqlite registry; making its tables takes seconds."""
    path = tmp_path_factory.mktemp("made") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def client(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    """A registry with four versions in no stage."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    (tmp_path / "mlflow.db").write_bytes(database.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "alice")
    mlflow.set_tracking_uri(uri)
    client = MlflowClient()
    make_versions(client, NAME, 4)
    yield client
    mlflow.set_tracking_uri(None)


def _produce(*versions: str) -> None:
    for version in versions:
        promote(NAME, version, "Production", judged=passed(NAME, version))


def _state(client: MlflowClient) -> tuple[dict[str, str], dict[str, str]]:
    seen = read_registry(client, NAME)
    return {version: stage for version, stage in seen.stages.items() if stage != "None"}, seen.aliases


def _steps(client: MlflowClient) -> list[tuple[str, ...]]:
    return [(step.kind, step.version, step.source, step.target, step.state) for step in History(client, NAME).records()]


def test_a_promotion_is_recorded_with_all_that_is_known(client: MlflowClient) -> None:
    _produce("1")
    promote(NAME, "2", "Staging", reason="fewer missed glaucomas")
    step = promote(NAME, "2", "Production", reason="asked for by the clinic", judged=passed(NAME, "2"))
    assert _state(client) == ({"1": "Archived", "2": "Production"}, {"production": "2"})
    assert (step.number, step.who, step.source, step.replaced) == (3, "alice", "Staging", ("1",))
    (recorded,) = [step for step in History(client, NAME).records() if step.number == 3]
    assert recorded.state == "done"
    assert recorded.evidence == "evidence-of-2"
    assert recorded.reason == "asked for by the clinic"
    assert len(recorded.digest) == 64
    assert recorded.started <= recorded.seen
    run = client.get_run(recorded.run_id)
    assert run.info.run_name == "3: version 2, Staging -> Production"
    assert client.get_experiment(run.info.experiment_id).name == f"{NAME}/transitions"


def test_nothing_is_recorded_where_nothing_moves(client: MlflowClient) -> None:
    promote(NAME, "1", "Staging")
    assert promote(NAME, "1", "Staging") is None
    assert len(_steps(client)) == 1


def test_a_refused_version_goes_to_staging_and_no_further(client: MlflowClient) -> None:
    _produce("1")
    with pytest.raises(RefusedError, match=r"stays in Staging: recall of glaucoma is 0.41; answers are late.*evidence-of-2"):
        promote(NAME, "2", "Production", judged=refused(NAME, "2"))
    assert _state(client) == ({"1": "Production", "2": "Staging"}, {"production": "1", "staging": "2"})


def test_a_refused_version_does_not_push_another_out_of_staging(client: MlflowClient) -> None:
    promote(NAME, "1", "Staging")
    with pytest.raises(RefusedError, match="stays in None"):
        promote(NAME, "2", "Production", judged=refused(NAME, "2"))
    assert _state(client) == ({"1": "Staging"}, {"staging": "1"})


def test_force_needs_a_reason_and_is_recorded(client: MlflowClient) -> None:
    with pytest.raises(StageError, match="needs a reason"):
        promote(NAME, "1", "Production", force=True, judged=refused(NAME, "1"))
    step = promote(NAME, "1", "Production", force=True, reason="the old one is broken", judged=refused(NAME, "1"))
    assert step.kind == "force"
    assert "the old one is broken (the gate refused: recall of glaucoma" in step.reason
    assert "transition 1 by alice: the old one is broken" in client.get_model_version(NAME, "1").tags["forced"]
    assert _state(client) == ({"1": "Production"}, {"production": "1"})


def test_a_gate_that_cannot_judge_lets_nothing_through_unless_forced(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: object) -> None:
        raise GateError("no labelled photos")

    monkeypatch.setattr("eye_disease.registry.gate.gate.validate_fetched", cannot)
    with pytest.raises(GateError):
        promote(NAME, "1", "Production")
    assert _state(client) == ({}, {})
    assert "could not judge: no labelled photos" in promote(NAME, "1", "Production", force=True, reason="r").reason


def test_the_judgement_of_another_version_lets_nothing_through(client: MlflowClient) -> None:
    with pytest.raises(StageError, match=f"has judged version 2 of {NAME}, not version 1"):
        promote(NAME, "1", "Production", judged=passed(NAME, "2"))
    assert _state(client) == ({}, {})


def test_production_that_changed_during_the_gate_is_noticed(client: MlflowClient) -> None:
    """Two people at once: the second has judged against a version that is not in Production any more."""
    _produce("1")

    judged = passed(NAME, "3")
    _produce("2")
    with pytest.raises(StageError, match=r"changed from version 1 to 2 in the meantime \(alice, .*validate and promote again"):
        promote(NAME, "3", "Production", judged=judged)
    assert _state(client) == ({"1": "Archived", "2": "Production"}, {"production": "2"})


def test_roll_back_goes_one_further_back_each_time(client: MlflowClient) -> None:
    _produce("1", "2", "3")
    step = rollback(NAME, reason="misses cataracts")
    assert (step.version, step.kind, step.replaced) == ("2", "rollback", ("3",))
    assert "transition 4 by alice: misses cataracts" in client.get_model_version(NAME, "3").tags["rolled_back"]
    assert rollback(NAME).version == "1"
    assert _state(client) == ({"1": "Production", "2": "Archived", "3": "Archived"}, {"production": "1"})
    with pytest.raises(StageError, match="nothing to go back to"):
        rollback(NAME)


def test_a_version_promoted_again_is_good_again(client: MlflowClient) -> None:
    _produce("1", "2")
    rollback(NAME)
    _produce("2", "3")
    assert "rolled_back" not in client.get_model_version(NAME, "2").tags
    assert rollback(NAME).version == "2"


def test_roll_back_skips_versions_that_were_deleted(client: MlflowClient) -> None:
    _produce("1", "2", "3")
    client.delete_model_version(NAME, "2")
    assert rollback(NAME).version == "1"
    assert ("outside", "2", "Archived", "Deleted", "done") in _steps(client)


def test_roll_back_of_a_version_that_is_not_in_production(client: MlflowClient) -> None:
    with pytest.raises(StageError, match="No version of eye_model is in Production"):
        rollback(NAME)
    _produce("1", "2")
    with pytest.raises(StageError, match="version 2 is in Production, not version 1"):
        rollback(NAME, only="1")
    assert rollback(NAME, only="2").version == "1"


def test_changed_files_are_noticed(client: MlflowClient) -> None:
    _produce("1", "2")
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}/1"))
    (folder / "MLmodel").write_text("other files")
    with pytest.raises(StageError, match="files of eye_model version 1 are not those of transition 1"):
        rollback(NAME)
    (folder / "MLmodel").unlink()
    with pytest.raises(VersionError, match=f"{NAME} version 1"):
        promote(NAME, "1", "Staging")
    assert _state(client)[0]["2"] == "Production"


def test_moves_made_in_mlflow_are_noticed_once(client: MlflowClient) -> None:
    _produce("1")
    with pytest.warns(FutureWarning, match="transition_model_version_stage"):
        client.transition_model_version_stage(NAME, "2", "Production", archive_existing_versions=True)
    client.set_registered_model_alias(NAME, "staging", "3")
    history = review(NAME)
    assert [row[:4] for row in _steps(client)[1:]] == [
        ("outside", "1", "Production", "Archived"),
        ("outside", "2", "None", "Production"),
        ("outside", "3", "", "@staging"),
    ]
    assert "the stage Production holds version 2, the alias @production points to version 1" in history.notes[-1]
    with pytest.raises(StageError, match="What is in Production is not clear"):
        rollback(NAME)
    promote(NAME, "2", "Production", judged=passed(NAME, "2"))
    assert _state(client)[1]["production"] == "2"
    assert review(NAME).records == [*history.records, History(client, NAME).records()[-1]]
    assert rollback(NAME).version == "1"


def test_stages_from_before_the_history_are_taken_over(client: MlflowClient) -> None:
    with pytest.warns(FutureWarning, match="transition_model_version_stage"):
        client.transition_model_version_stage(NAME, "1", "Production")
    client.set_registered_model_alias(NAME, "production", "1")
    _produce("2")
    assert [step[:2] for step in _steps(client)] == [("outside", "1"), ("outside", "1"), ("promote", "2")]
    assert History(client, NAME).records()[0].reason == "found when this history began"
    assert rollback(NAME).version == "1"


def test_a_deleted_record_is_still_read_and_a_removed_one_is_missed(client: MlflowClient, tmp_path: Path) -> None:
    _produce("1", "2")
    first, second = History(client, NAME).records()
    client.delete_run(first.run_id)
    assert review(NAME).records == [first, second]
    assert review(NAME).notes == []
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("delete from runs where run_uuid = ?", [first.run_id])
    database.close()
    assert review(NAME).notes[0].startswith("Transitions missing from the history: 1.")


class _Killed(BaseException):
    """The end of the process, as far as the code can tell."""


@pytest.mark.parametrize(
    ("call", "ended"),
    [("transition_model_version_stage", "undone"), ("set_registered_model_alias", "done"), ("set_terminated", "done")],
)
def test_a_command_that_died_is_mended_by_the_next(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, call: str, ended: str
) -> None:
    _produce("1")

    def die(*_: object, **__: object) -> None:
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, call, die)
        with pytest.raises(_Killed):
            promote(NAME, "2", "Production", judged=passed(NAME, "2"))
    assert _steps(client)[-1][-1] == "begun"
    stage_moved = ended == "done"
    assert read_registry(client, NAME).holder("Production") == ("2" if stage_moved else "1")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    history = review(NAME)
    assert (history.records[-1].state, history.records[-1].recovered) == (ended, "bob")
    assert history.notes == []
    assert _state(client)[1] == {"production": "2" if stage_moved else "1"}


def test_a_refused_call_leaves_a_record_that_says_so(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise MlflowException("Permission denied", PERMISSION_DENIED)

    monkeypatch.setattr(MlflowClient, "transition_model_version_stage", denied)
    with pytest.raises(
        StageError, match=r"Moving eye_model version 1 to Staging failed: Permission denied\. Ask an administrator for EDIT"
    ):
        promote(NAME, "1", "Staging")
    assert _steps(client) == [("promote", "1", "None", "Staging", "undone")]


def test_a_call_whose_answer_was_lost_counts(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    moves = MlflowClient.transition_model_version_stage

    def loses_its_answer(*arguments: object, **named: object) -> None:
        moves(*arguments, **named)
        raise MlflowException("Connection reset by peer")

    monkeypatch.setattr(MlflowClient, "transition_model_version_stage", loses_its_answer)
    assert promote(NAME, "1", "Staging").state == "done"
    assert _state(client) == ({"1": "Staging"}, {"staging": "1"})


def test_a_lock_is_waited_for_and_its_holder_named(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotion_lock, "WAIT_SECONDS", 0.5)
    with (
        locked(client, NAME),
        pytest.raises(LockedError, match=f"alice on .* is moving a version of {NAME}"),
        locked(client, NAME),
    ):
        pass
    assert [model.name for model in client.search_registered_models()] == [NAME]


def test_a_dead_commands_lock_is_taken_over(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(promotion_lock, "STALE_SECONDS", 1)
    client.create_registered_model(f"{NAME}.lock-1", {"lock.holder": "carol on ward-7"})
    with locked(client, NAME):
        assert [model.name for model in client.search_registered_models()] == [NAME, f"{NAME}.lock-2"]
    assert "carol on ward-7 is moving a version" in caplog.text
    assert "left by carol on ward-7" in caplog.text
    assert [model.name for model in client.search_registered_models()] == [NAME]


def test_a_lock_that_goes_while_one_is_made(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow then says of a name that it could not create that there is none such."""
    make = MlflowClient.create_registered_model
    gone = [MlflowException("not found", RESOURCE_DOES_NOT_EXIST)]

    def sometimes(*arguments: object, **named: object) -> object:
        if gone:
            raise gone.pop()
        return make(*arguments, **named)

    monkeypatch.setattr(MlflowClient, "create_registered_model", sometimes)
    with locked(client, NAME):
        assert [model.name for model in client.search_registered_models()] == [NAME, f"{NAME}.lock-1"]


def test_locks_of_models_with_similar_names_are_not_mixed_up(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotion_lock, "WAIT_SECONDS", 0)
    with locked(client, "eyeXmodel"), locked(client, NAME), locked(client, f"{NAME}.lock-x"):
        pass


def test_nothing_moves_when_the_lock_may_have_been_lost(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotion_lock, "HOLD_SECONDS", -1)
    with pytest.raises(LockedError, match="Nothing was moved"):
        promote(NAME, "1", "Staging")
    assert _steps(client) == []


def test_an_unknown_version_model_or_stage_is_named(client: MlflowClient) -> None:
    with pytest.raises(StageError, match="has no version 99"):
        promote(NAME, "99", "Staging")
    with pytest.raises(StageError, match="Reading nothing from this registry failed"):
        promote("nothing", "1", "Staging")
    with pytest.raises(StageError, match="Expected one of Staging, Production, Archived"):
        promote(NAME, "1", "Live")


@pytest.mark.parametrize("name", ["a'b", "Olho é bom (2)"])
def test_a_name_with_a_quote_or_accents_is_followed(client: MlflowClient, name: str) -> None:
    make_versions(client, name, 2)
    for version in ("1", "2"):
        promote(name, version, "Production", judged=passed(name, version))
    assert rollback(name).version == "1"
    champion = in_stage(name, "Production")
    assert champion is not None
    assert (champion.version, champion.aliases) == ("1", ("production",))
    assert [step.kind for step in review(name).records] == ["promote", "promote", "rollback"]
    assert [summary.version for summary in list_versions(name)] == ["2", "1"]


def test_everybody_goes_by_the_stage(client: MlflowClient) -> None:
    """The drift job, serving and the commands, where stage and alias were moved apart in MLflow's UI."""
    _produce("1", "2")
    client.set_registered_model_alias(NAME, "production", "1")
    champion = in_stage(NAME, "Production")
    assert champion is not None
    assert champion.version == version_in_production(NAME, 5) == read_registry(client, NAME).holder("Production") == "2"
    client.delete_registered_model_alias(NAME, "production")
    assert version_in_production(NAME, 5) == "2"
    assert in_stage("no-such-model", "Production") is version_in_production("no-such-model", 5) is None


def test_a_promotion_reads_the_registry_twice(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the gate and under the lock; what was read is handed on."""
    monkeypatch.setattr("eye_disease.registry.gate.gate.validate_fetched", passes_fetched)
    read, search = [], MlflowClient.search_model_versions

    def counted(*arguments: object, **named: object) -> object:
        read.append(arguments)
        return search(*arguments, **named)

    monkeypatch.setattr(MlflowClient, "search_model_versions", counted)
    promote(NAME, "1", "Production")
    assert len(read) == 2
