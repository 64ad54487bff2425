"""The history as people read it: every transition, and what was where at a given time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow import MlflowClient

from eye_disease.common.errors import UserError
from eye_disease.common.text import one_line
from eye_disease.registry.history.mover import moving, unrecorded
from eye_disease.registry.history.store import History
from eye_disease.registry.history.transition import Transition, finished, missing_numbers, recorded_state
from eye_disease.registry.versions import ALIASES, RegistryState, StageError, read_registry

HEADINGS = ("no", "UTC", "who", "kind", "version", "from", "to", "replaced", "files", "evidence", "reason")


@dataclass(frozen=True)
class Review:
    """All there is to know of a model's stages."""

    records: list[Transition]
    notes: list[str]
    """What a reader must know: gaps, disagreements, what could not be recorded."""


def review(name: str) -> Review:
    """Bring the history up to date and read it; without the permission to write, read it as it is and say so.

    Raises StageError if there is no such model.
    """
    client = MlflowClient()
    notes = []
    read_registry(client, name)
    try:
        with moving(client, name) as mover:
            records, registry = mover.records, mover.registry
    except StageError as error:
        records, registry = History(client, name).records(), read_registry(client, name)
        notes.append(f"The history could not be brought up to date: {error}")
        notes += [_not_recorded(step) for step in unrecorded(records, registry)]
    return Review(records, notes + _notes(records, registry))


def held_at(records: Sequence[Transition], when: datetime) -> list[str]:
    """A sentence for each stage and alias: which version was there at a time (UTC), since when, by whom."""
    until = [step for step in records if step.started <= when]
    if not until:
        first = f"The first record is of {_time(records[0].started)}." if records else "There are no records."
        return [f"Nothing is known of {_time(when)}. {first}"]
    recorded = recorded_state(until)
    sentences = []
    for stage, alias in ALIASES.items():
        version, pointed = recorded.holder(stage), recorded.aliases.get(alias)
        sentences.append(f"{stage}: {_since(until, version, stage) if version else 'no version'}")
        if pointed != version:
            sentences.append(f"@{alias}: {f'version {pointed}' if pointed else 'no version'}, moved in MLflow's UI or API")
    return sentences


def row(step: Transition) -> tuple[str, ...]:
    """A record's cells under HEADINGS."""
    state = "" if step.state == "done" else f"({step.state})"
    recovered = f"[completed by {step.recovered} after the command was interrupted]" if step.recovered else ""
    noticed = f"[noticed {_time(step.seen)}]" if step.kind == "outside" and step.seen else ""
    return (
        str(step.number),
        _time(step.started),
        one_line(step.who),
        step.kind,
        step.version,
        step.source or "-",
        step.target or "-",
        ",".join(step.replaced) or "-",
        step.digest[:12] or "-",
        step.evidence or "-",
        one_line(" ".join(filter(None, (state, step.reason, recovered, noticed)))) or "-",
    )


def table(records: Sequence[Transition]) -> list[str]:
    """The records as lines of text with aligned columns."""
    rows = [HEADINGS, *map(row, records)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in rows]


def read_time(text: str) -> datetime:
    """A time as `2026-11-01T12:00Z`; UTC where no zone is given. Raises UserError."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"{text!r} is no time. Expected one as 2026-11-01T12:00Z or 2026-11-01.") from error
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def _notes(records: list[Transition], registry: RegistryState) -> list[str]:
    gaps = missing_numbers(records)
    return [
        *(
            [f"Transitions missing from the history: {', '.join(map(str, gaps))}. They were deleted from MLflow's store."]
            if gaps
            else []
        ),
        *(
            f"Stage and alias disagree: {disagreement}. Promoting the right version mends it."
            for disagreement in registry.disagreements()
        ),
    ]


def _since(records: Sequence[Transition], version: str, stage: str) -> str:
    step = [step for step in finished(records) if (step.version, step.target) == (version, stage)][-1]
    sentence = f"version {version} since {_time(step.started)} (transition {step.number}, {step.kind} by {one_line(step.who)})"
    if step.kind != "outside" or step.seen is None:
        return sentence
    return f"{sentence}; made in MLflow's UI or API at that time or before, noticed {_time(step.seen)}"


def _not_recorded(step: Transition) -> str:
    return f"Not recorded yet: version {step.version}, {step.source or '-'} -> {step.target or '-'}, {step.reason}."


def _time(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"
