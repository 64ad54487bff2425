"""What records add up to, and how people read them."""

from datetime import UTC, datetime, timedelta

import pytest
from mlflow.entities import Run, RunData, RunInfo, RunStatus, RunTag

from eye_disease.registry.history.mover import unrecorded
from eye_disease.registry.history.transition import PREFIX, Transition, missing_numbers, recorded_state
from eye_disease.registry.history.view import held_at, read_time, table
from eye_disease.registry.versions import RegistryState, StageError

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


def _record(number: int, version: str, source: str, target: str, kind: str = "promote", **more: object) -> Transition:
    """A finished record, one a day."""
    at = START + timedelta(days=number)
    return Transition(
        version, source, target, kind, who="alice", number=number, started=at, **{"state": "done", "seen": at} | more
    )


STORY = [
    _record(1, "1", "None", "Production"),
    _record(2, "2", "None", "Staging"),
    _record(3, "2", "Staging", "Production", replaced=("1",)),
    _record(4, "1", "Archived", "Production", "rollback", replaced=("2",), reason="misses cataracts"),
]


def test_records_add_up() -> None:
    assert recorded_state(STORY[:2]).stages == {"1": "Production", "2": "Staging"}
    assert recorded_state(STORY[:2]).aliases == {"production": "1", "staging": "2"}
    assert recorded_state(STORY[:3]).stages == {"1": "Archived", "2": "Production"}
    assert recorded_state(STORY[:3]).aliases == {"production": "2"}
    assert recorded_state(STORY).stages == {"1": "Production", "2": "Archived"}
    assert recorded_state(STORY).holder("Staging") is None
    assert recorded_state([*STORY, _record(5, "1", "Production", "Archived", "archive")]).aliases == {}


def test_what_was_begun_or_undone_moved_nothing() -> None:
    for state in ("begun", "undone"):
        assert recorded_state([*STORY, _record(5, "3", "None", "Production", replaced=("1",), state=state)]) == recorded_state(
            STORY
        )


def test_what_mlflow_moved_is_taken_as_seen() -> None:
    recorded = recorded_state(
        [*STORY, _record(5, "3", "None", "Production", "outside"), _record(6, "3", "", "@production", "outside")]
    )
    assert recorded.stages["1"] == recorded.stages["3"] == "Production"
    assert recorded.holder("Production") == "3"
    assert recorded.aliases == {"production": "3"}
    recorded.apply(_record(7, "3", "@production", "", "outside"))
    assert recorded.aliases == {}


@pytest.mark.parametrize(
    ("registry", "expected"),
    [
        (RegistryState({"1": "Production", "2": "Archived", "3": "None"}, {"production": "1"}, {}), []),
        (RegistryState({"1": "Production"}, {"production": "1"}, {}), [("2", "Archived", "Deleted")]),
        (RegistryState({"1": "None", "2": "Archived"}, {}, {}), [("1", "Production", "None"), ("1", "@production", "")]),
        (
            RegistryState({"1": "Production", "2": "Archived", "10": "Staging"}, {"production": "2", "staging": "10"}, {}),
            [("10", "None", "Staging"), ("10", "", "@staging"), ("2", "", "@production")],
        ),
    ],
)
def test_differences_from_the_registry_become_records_that_add_up_to_it(
    registry: RegistryState, expected: list[tuple[str, str, str]]
) -> None:
    steps = unrecorded(STORY, registry)
    assert [(step.version, step.source, step.target) for step in steps] == expected
    assert all(step.kind == "outside" for step in steps)
    done = [
        *STORY,
        *(_record(5 + place, step.version, step.source, step.target, "outside") for place, step in enumerate(steps)),
    ]
    assert unrecorded(done, registry) == []


def test_an_outside_move_is_dated_by_the_registry() -> None:
    moved = START + timedelta(days=30)
    (step,) = unrecorded(STORY, RegistryState({"1": "Production", "2": "Staging"}, {"production": "1"}, {"2": moved}))
    assert step.started == moved


@pytest.mark.parametrize(
    ("when", "sentences"),
    [
        ("2026-11-02T11:59Z", ["Nothing is known of 2026-11-02T11:59:00Z. The first record is of 2026-11-02T12:00:00Z."]),
        (
            "2026-11-03T14:00+02:00",
            [
                "Staging: version 2 since 2026-11-03T12:00:00Z (transition 2, promote by alice)",
                "Production: version 1 since 2026-11-02T12:00:00Z (transition 1, promote by alice)",
            ],
        ),
        (
            "2026-11-05",
            ["Staging: no version", "Production: version 2 since 2026-11-04T12:00:00Z (transition 3, promote by alice)"],
        ),
        (
            "2027-01-01",
            ["Staging: no version", "Production: version 1 since 2026-11-05T12:00:00Z (transition 4, rollback by alice)"],
        ),
    ],
)
def test_what_was_in_production_then(when: str, sentences: list[str]) -> None:
    assert held_at(STORY, read_time(when)) == sentences


def test_doubts_about_a_time_are_told() -> None:
    records = [
        *STORY,
        _record(5, "3", "None", "Production", "outside", seen=START + timedelta(days=9)),
        _record(6, "2", "", "@production", "outside"),
    ]
    sentences = held_at(records, START + timedelta(days=20))
    assert "made in MLflow's UI or API at that time or before, noticed 2026-11-10T12:00:00Z" in sentences[1]
    assert sentences[2] == "@production: version 2, moved in MLflow's UI or API"
    assert held_at([], START) == ["Nothing is known of 2026-11-01T12:00:00Z. There are no records."]


def test_a_wrong_time_is_explained() -> None:
    with pytest.raises(ValueError, match=r"'yesterday' is no time. Expected one as 2026-11-01T12:00Z"):
        read_time("yesterday")


def test_a_table_has_all_of_a_record() -> None:
    heading, *_, last = table(
        [*STORY, _record(5, "2", "Archived", "Staging", state="undone", recovered="bob", digest="ab" * 32)]
    )
    assert heading.split() == ["no", "UTC", "who", "kind", "version", "from", "to", "replaced", "files", "evidence", "reason"]
    assert last.split()[:9] == [
        "5",
        "2026-11-06T12:00:00Z",
        "alice",
        "promote",
        "2",
        "Archived",
        "Staging",
        "-",
        "abababababab",
    ]
    assert last.endswith("(undone) [completed by bob after the command was interrupted]")


def test_removed_records_leave_a_gap() -> None:
    assert missing_numbers(STORY) == []
    assert missing_numbers([STORY[0], STORY[3]]) == [2, 3]


def _run(tags: dict[str, str]) -> Run:
    info = RunInfo("run-1", "0", "alice", RunStatus.to_string(RunStatus.FINISHED), 1000, 2000, "active")
    return Run(info, RunData(tags=[RunTag(PREFIX + key, value) for key, value in tags.items()]))


def test_a_record_survives_its_run() -> None:
    step = _record(4, "1", "Archived", "Production", "rollback", replaced=("2", "3"), evidence="e", digest="d", reason="r")
    read = Transition.from_run(_run(step.tags("eye")))
    assert (read.tags("eye"), read.state, read.run_id) == (step.tags("eye"), "done", "run-1")


def test_a_run_edited_by_hand_is_named() -> None:
    tags = STORY[0].tags("eye")
    for broken in ({key: value for key, value in tags.items() if key != "to"}, tags | {"number": "first"}):
        with pytest.raises(StageError, match=r"Run run-1 is among the transitions but is no record.*edited by hand"):
            Transition.from_run(_run(broken))
