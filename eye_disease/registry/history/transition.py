"""One step of a version from stage to stage, as it stands in the history, and what steps add up to."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mlflow.entities import Run

from eye_disease.registry.versions import ALIASES, NO_STAGE, StageError

KINDS = ("promote", "force", "rollback", "archive", "outside")
"""`force`: to Production although the gate refused. `outside`: made in MLflow itself, noticed later."""
STATES = {"RUNNING": "begun", "FINISHED": "done", "FAILED": "undone"}
PREFIX = "transition."
_LONGEST_REASON = 2000


@dataclass(frozen=True)
class Transition:
    """A version's way from one stage to another; the alias goes with it."""

    version: str
    source: str
    """Stage it came from; `@alias` if only that alias was taken from it, in MLflow itself."""
    target: str
    """Stage it went to; `Deleted` if the version is gone; `@alias` if only that alias was moved to it, in MLflow itself."""
    kind: str
    """One of KINDS."""
    reason: str = ""
    who: str = ""
    replaced: tuple[str, ...] = ()
    """Versions that the same step moved from the target stage to Archived."""
    evidence: str = ""
    """Run of the gate."""
    digest: str = ""
    """SHA-256 over the version's files (`FetchedVersion.files_sha256`)."""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    """UTC. Of `outside`: the latest moment at which it can have happened, as far as the registry tells."""
    seen: datetime | None = None
    """UTC; when the record was closed. Of `outside`: when it was noticed."""
    number: int = 0
    run_id: str = ""
    state: str = "begun"
    """`begun`, `done` or `undone`."""
    recovered: str = ""
    """Who finished or undid it, after the command that began it was interrupted."""

    @property
    def title(self) -> str:
        """As `5: version 4, Staging -> Production`."""
        return f"{self.number}: version {self.version}, {self.source} -> {self.target}"

    def tags(self, model: str) -> dict[str, str]:
        """The run's tags."""
        return {
            "model": model,
            "number": str(self.number),
            "version": self.version,
            "from": self.source,
            "to": self.target,
            "kind": self.kind,
            "reason": self.reason[:_LONGEST_REASON],
            "who": self.who,
            "replaced": ",".join(self.replaced),
            "evidence_run": self.evidence,
            "model_digest": self.digest,
        }

    @classmethod
    def from_run(cls, run: Run) -> "Transition":
        """The reverse of `tags`. Raises StageError for a run that is no record."""
        tags = {key.removeprefix(PREFIX): value for key, value in run.data.tags.items() if key.startswith(PREFIX)}
        try:
            return cls(
                version=tags["version"],
                source=tags["from"],
                target=tags["to"],
                kind=tags["kind"],
                reason=tags.get("reason", ""),
                who=tags.get("who", ""),
                replaced=tuple(filter(None, tags.get("replaced", "").split(","))),
                evidence=tags.get("evidence_run", ""),
                digest=tags.get("model_digest", ""),
                started=utc(run.info.start_time),
                seen=utc(run.info.end_time) if run.info.end_time else None,
                number=int(tags["number"]),
                run_id=run.info.run_id,
                state=STATES[run.info.status],
                recovered=tags.get("mended", ""),
            )
        except (KeyError, ValueError) as error:
            raise StageError(
                f"Run {run.info.run_id} is among the transitions but is no record of one ({error!r}). Was it edited by hand?"
            ) from error


@dataclass
class RecordedState:
    """Which version holds which stage and alias, by the records."""

    stages: dict[str, str] = field(default_factory=dict)
    """Version -> stage; a version not in it has none."""
    aliases: dict[str, str] = field(default_factory=dict)

    def apply(self, step: Transition) -> None:
        """Add one record, in the order of numbers."""
        if step.target.startswith("@"):
            self.aliases[step.target[1:]] = step.version
            return
        if step.source.startswith("@"):
            self.aliases.pop(step.source[1:], None)
            return
        self.stages[step.version] = step.target
        self.stages |= dict.fromkeys(step.replaced, "Archived")
        if step.kind == "outside":
            return
        for alias in [alias for alias, version in self.aliases.items() if version == step.version]:
            del self.aliases[alias]
        if step.target in ALIASES:
            self.aliases[ALIASES[step.target]] = step.version

    def stage(self, version: str) -> str:
        """The version's stage."""
        return self.stages.get(version, NO_STAGE)

    def holder(self, stage: str) -> str | None:
        """The version in a stage; the highest number if there are several, as in MLflow."""
        return max((version for version, its_stage in self.stages.items() if its_stage == stage), key=int, default=None)


def recorded_state(records: Iterable[Transition]) -> RecordedState:
    """What the finished ones among the records add up to."""
    recorded = RecordedState()
    for step in finished(records):
        recorded.apply(step)
    return recorded


def finished(records: Iterable[Transition]) -> Iterator[Transition]:
    """Those that moved something."""
    return (step for step in records if step.state == "done")


def missing_numbers(records: Iterable[Transition]) -> list[int]:
    """Numbers of records that once were and are gone for good."""
    numbers = {step.number for step in records}
    return sorted(set(range(1, max(numbers, default=0) + 1)) - numbers)


def utc(milliseconds: int) -> datetime:
    """MLflow's time as a time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
