"""The model card: what a version is, what it rests on and what is unknown, from its package and the gate's evidence.

The sections are those of Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019), as far as they can be known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mlflow import MlflowClient

from eye_disease.common.text import clean
from eye_disease.registry import card_sections as sections
from eye_disease.registry.gate.checks import GateCheck
from eye_disease.registry.gate.judge import GateJudgement
from eye_disease.registry.versions import FetchedVersion, list_versions

AUTHORS_CARD = "MODEL_CARD.md"
"""In a package: what its makers say of it; becomes the card's last section."""
CARD_ARTIFACT = "model_card.md"
MAX_DESCRIPTION = 4_900
"""Characters of a version's description; MLflow's stores take 5,000."""
MOST_EARLIER = 10
"""Versions of the change history."""
_WARNING = "**For research. Not a medical device, not for diagnosis.**"


@dataclass(frozen=True)
class EarlierVersion:
    """An earlier version of the same model."""

    version: str
    created: datetime
    """UTC"""
    stage: str
    gate: str
    """`passed`, `refused`, or empty: not run."""
    accuracy: float | None
    """On its own validation photos; None where it is not recorded."""


def publish_card(
    version: FetchedVersion, run_id: str, judgement: GateJudgement | None = None, checks: Sequence[GateCheck] = ()
) -> None:
    """Log the card to a run and make its essence the version's description. judgement, checks: of the gate, if it has run."""
    client = MlflowClient()
    client.log_text(run_id, model_card(version, judgement, checks), CARD_ARTIFACT)
    client.update_model_version(version.name, version.version, description(version, run_id, judgement, checks))


def model_card(version: FetchedVersion, judgement: GateJudgement | None = None, checks: Sequence[GateCheck] = ()) -> str:
    """The whole card, Markdown."""
    facts, figures = version.facts, sections.figures_of(version.facts, judgement)
    breakdown = sections.breakdown_of(facts, judgement)
    parts = {
        "Intended use": sections.intended_use(facts),
        "Model": sections.model(version),
        "Data and split": sections.data(facts),
        "Figures": sections.figures_table(figures, judgement),
        "Within a source": sections.within_source(breakdown),
        "Promise": sections.promise(facts),
        "Fairness": sections.fairness(breakdown),
        "Calibration": sections.calibration(facts, figures),
        "Input envelope": sections.envelope(version),
        "Limits": sections.limits(facts, figures),
        "Gate": sections.gate(judgement, checks),
        "Change history": change_history(earlier_versions(version.name, version.version)),
    }
    authors = version.package / AUTHORS_CARD
    if authors.is_file():
        parts["Authors' notes"] = [sections.lowered(authors.read_text())]
    body = "\n\n".join(f"## {title}\n\n" + "\n".join(lines) for title, lines in parts.items())
    return f"# {clean(version.name)}, version {version.version}\n\n{_WARNING}\n\n{body}\n"


def description(
    version: FetchedVersion, run_id: str, judgement: GateJudgement | None = None, checks: Sequence[GateCheck] = ()
) -> str:
    """The card's essence, at most MAX_DESCRIPTION characters; run_id: where the whole card is."""
    facts, figures = version.facts, sections.figures_of(version.facts, judgement)
    parts = [sections.intended_use(facts), sections.promise(facts), sections.figures_table(figures, judgement)]
    parts.append(sections.limits(facts, figures))
    if judgement:
        parts.append(sections.gate(judgement, [check for check in checks if not check.passed]))
    end = f"\n\nWhole card: `{CARD_ARTIFACT}` of run {run_id}."
    text = "\n\n".join([_WARNING, *("\n".join(lines) for lines in parts)])
    if len(text) + len(end) > MAX_DESCRIPTION:
        text = text[: MAX_DESCRIPTION - len(end) - 4].rpartition("\n")[0] + "\n..."
    return text + end


def earlier_versions(name: str, version: str) -> list[EarlierVersion]:
    """The versions before `version`, newest first, MOST_EARLIER at most."""
    client = MlflowClient()
    earlier = [summary for summary in list_versions(name) if int(summary.version) < int(version)]
    return [
        EarlierVersion(
            summary.version,
            summary.created,
            summary.stage,
            summary.tags.get("gate", ""),
            client.get_run(summary.run_id).data.metrics.get("validation_accuracy") if summary.run_id else None,
        )
        for summary in earlier[:MOST_EARLIER]
    ]


def change_history(history: Sequence[EarlierVersion]) -> list[str]:
    """The versions before it."""
    if not history:
        return ["The first version."]
    lines = ["| version | registered | stage now | gate | validation accuracy |", "|---|---|---|---|---|"]
    return lines + [
        f"| {earlier.version} | {earlier.created:%Y-%m-%d} | {earlier.stage} | {clean(earlier.gate or 'not run')} | "
        f"{sections.UNKNOWN if earlier.accuracy is None else f'{earlier.accuracy:.3f}'} |"
        for earlier in history
    ]
