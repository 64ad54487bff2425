"""The sections of a model card, each as lines of Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from eye_disease.common.text import clean
from eye_disease.evaluation.breakdown import Breakdown
from eye_disease.evaluation.confounding import class_of_one_source
from eye_disease.evaluation.figures import Figures
from eye_disease.evaluation.parts import Part
from eye_disease.evaluation.shares import Share
from eye_disease.profiles.reference import REFERENCE_FILE, Reference
from eye_disease.registry.gate.checks import GateCheck
from eye_disease.registry.gate.judge import GateJudgement
from eye_disease.registry.versions import FetchedVersion
from model_code.decision import HEALTHY
from model_code.package import ModelFacts, Statistics
from model_code.quality import STATISTICS

_POOR_RECALL = 0.8
_LONGEST_ORIGIN, _LONGEST_REASON = 2000, 500
_ALPHA = 0.05
"""Of all groups together: a gap with a smaller p-value is named as one."""
UNKNOWN = "not recorded"


def figures_of(facts: ModelFacts, judgement: GateJudgement | None) -> Figures | None:
    """Those of the gate's labelled photos, else the package's own."""
    if judgement and judgement.candidate:
        return judgement.candidate.figures
    stored = facts.provenance.get("validation")
    return Figures.from_dict(stored) if stored else None


def intended_use(facts: ModelFacts) -> list[str]:
    """What it is for, and for whom."""
    subject = "colour fundus photo" if facts.recipe.crop == "fundus" else "photo"
    classes = ", ".join(map(clean, facts.classes))
    return [
        f"Names one of {classes} for one {subject}, for research on screening, by people who check its "
        "answers. It says nothing of severity, of other diseases, or of a patient."
    ]


def model(version: FetchedVersion) -> list[str]:
    """Where it comes from and how it runs."""
    facts, recipe = version.facts, version.facts.recipe
    agreement = facts.provenance.get("keras_agreement", {})
    runtime = ", deep layers in 8-bit integers" if facts.quantized else ""
    runtime += f", probabilities at most {agreement['largest_difference']:.2g} from Keras'" if agreement else ""
    return [
        "| | |",
        "|---|---|",
        f"| Origin | {clean(facts.provenance.get('description') or UNKNOWN, _LONGEST_ORIGIN)} |",
        f"| Network's input | {recipe.input_size} x {recipe.input_size} pixels, RGB, range `{recipe.scaling}` |",
        f"| Runtime | {'LiteRT' + runtime if facts.runtime == 'litert' else 'Keras'} |",
        f"| SHA-256 of package, code, requirements | {version.behaviour_sha256} |",
    ]


def data(facts: ModelFacts) -> list[str]:
    """Photos by split, label and source."""
    recorded = facts.provenance.get("data")
    if not recorded:
        return [f"Training data and split: {UNKNOWN} in the package."]
    lines = ["| split | label | source | photos |", "|---|---|---|---|"]
    lines += [
        f"| {clean(row['split'])} | {clean(row['label'])} | {clean(row['source'])} | {row['photos']} |"
        for row in recorded["photos"]
    ]
    photos, groups = sum(row["photos"] for row in recorded["photos"]), recorded["groups"]
    if groups == photos:
        return [
            *lines,
            "",
            "No patients are known: photos of one patient may lie in both splits, and then the figures are too good.",
        ]
    return [*lines, "", f"The {photos} photos are of {groups} groups (patients); none lies in both splits."]


def figures_table(figures: Figures | None, judgement: GateJudgement | None) -> list[str]:
    """Shares with 95 % intervals."""
    if figures is None:
        return ["Unknown: the package keeps no validation figures and the gate has not judged it on labelled photos."]
    own_photos = "On the validation photos kept back from its training, as recorded in the package"
    basis = f"By the gate, on {judgement.basis}" if judgement and judgement.candidate else own_photos
    rows = {"accuracy": figures.accuracy} | {f"recall {name}": share for name, share in figures.recall.items()}
    rows |= {f"accuracy, source {name}": share for name, share in figures.accuracy_by_source.items()}
    auroc = f", macro AUROC {figures.macro_auroc:.3f}" if np.isfinite(figures.macro_auroc) else ""
    return [
        f"{basis}; 95 % Wilson intervals.",
        "",
        "| | share | interval | photos |",
        "|---|---|---|---|",
        *(f"| {clean(name)} | {_share(share)} | {share.n} |" for name, share in rows.items()),
        "",
        f"Macro-F1 {figures.macro_f1:.3f}{auroc}.",
    ]


def breakdown_of(facts: ModelFacts, judgement: GateJudgement | None) -> Breakdown | None:
    """That of the gate's labelled photos, else the package's own; None where neither has one."""
    if judgement and judgement.candidate:
        return judgement.candidate.breakdown
    return Breakdown.from_dict(facts.provenance)


def within_source(breakdown: Breakdown | None) -> list[str]:
    """What it sees once the camera cannot tell."""
    if breakdown is None:
        return [f"Figures within a source: {UNKNOWN}."]
    within = breakdown.within
    lines = [
        f"Each disease against `{HEALTHY}` by its probability; pooled over sources, cameras that differ by class flatter it. "
        "95 % intervals; a patient's photos count as alike.",
        "",
        "| disease | source | AUROC | interval | with it | healthy |",
        "|---|---|---|---|---|---|",
        *(
            f"| {clean(separation.name)} | {clean(separation.source)} | {separation.auroc.value:.3f} "
            f"| {separation.auroc.low:.3f} - {separation.auroc.high:.3f} "
            f"| {separation.auroc.ill} | {separation.auroc.healthy} |"
            for separation in within.separations
        ),
        "",
    ]
    return [*lines, *_parts("source", within.sources)]


def fairness(breakdown: Breakdown | None) -> list[str]:
    """By age band and sex."""
    if breakdown is None or breakdown.groups is None:
        return ["Neither age nor sex is known of the photos, so fairness is not measured."]
    groups, lines = breakdown.groups, []
    for kind, parts in groups.parts.items():
        lines += [*_parts(kind, parts, recalls=True), ""]
    unfair = groups.unfair(_ALPHA)
    if not unfair:
        return [*lines, "No group fares worse than the others by more than chance explains."]
    return [
        *lines,
        "Worse than the others by more than chance explains:",
        "",
        *(f"- {clean(gap, _LONGEST_REASON)}" for gap in unfair),
    ]


def _parts(kind: str, parts: Mapping[str, Part], recalls: bool = False) -> list[str]:
    """A table with a line for each part."""
    classes = list(dict.fromkeys(name for part in parts.values() for name in part.recall)) if recalls else []
    head = [kind, "photos", "accuracy", *(f"recall {clean(name)}" for name in classes), "reported", "wrong among reported"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, part in parts.items():
        shares = [
            part.accuracy,
            *(part.recall.get(label_name) for label_name in classes),
            part.reported,
            part.error_among_reported,
        ]
        cells = [f"{share.value:.3f} ({share.low:.3f} - {share.high:.3f})" if share else "" for share in shares]
        lines.append(f"| {' | '.join([clean(name), str(part.accuracy.n), *cells])} |")
    return lines


def promise(facts: ModelFacts) -> list[str]:
    """What `report` stands for."""
    terms = facts.promise
    if terms is None:
        return ["Nothing is promised of answers with decision `report`."]
    sentence = (
        f"Of the answers with decision `report` at most {terms.max_error:.0%} are wrong, and of the eyes with a disease "
        f"(diabetic retinopathy from grade 2 on) at most {terms.max_missed:.0%} are reported as normal: with "
        f"{terms.certainty:.0%} confidence, for photos as in validation."
    )
    if terms.threshold is None:
        return [f"{sentence} No limit of the score keeps that on the validation photos, so nothing is reported."]
    lines = [sentence, "", "| of one photo a patient | counted | at most | promised |", "|---|---|---|---|"]
    for name, share, most in (
        ("wrong among reported", terms.error, terms.max_error),
        ("missed", terms.missed, terms.max_missed),
    ):
        if share is not None:
            lines.append(f"| {name} | {share.hits} of {share.n} | {share.bound:.3f} | {most:g} |")
    return [*lines, "", f"{terms.reported:.1%} of the validation photos were reported."]


def calibration(facts: ModelFacts, figures: Figures | None) -> list[str]:
    """What a confidence is worth."""
    fitted = "not fitted" if facts.temperature == 1 else f"{facts.temperature:.3g}, fitted on the validation photos"
    error = (
        f"Expected calibration error, 15 bins: {figures.calibration_error:.3f}." if figures else "Calibration error: unknown."
    )
    return [f"Temperature: {fitted}. {error} A confidence below {facts.low_confidence:g} sends the photo to `review`."]


def envelope(version: FetchedVersion) -> list[str]:
    """Which photos it takes, and which it knows."""
    statistics = Statistics.load(version.package)
    lines = ["JPEG, PNG, BMP, TIFF or WebP of at least 32 pixels a side; one photo an answer."]
    if version.facts.recipe.crop == "fundus":
        lines.append("Fundus photos with a dark surround: cropped to the disc and cut to one common circle.")
    lines += _reference_ranges(version.package / REFERENCE_FILE)
    if statistics.source_means is None:
        lines.append(
            "It does not notice photos unlike its training photos: `out_of_distribution` and `unfamiliar_camera` are null."
        )
    else:
        sources = len(statistics.source_means)
        lines.append(
            f"Photos unlike those of its {sources} training source{'s' if sources > 1 else ''} are marked "
            "`out_of_distribution` or `unfamiliar_camera`; not every one of them."
        )
    if statistics.quality_weights is None:
        lines.append("It does not notice ungradable photos: `gradable` is null.")
    return lines


def _reference_ranges(path: Path) -> list[str]:
    if not path.is_file():
        return ["What its photos should look like: no reference in the package, so drift can be judged by fixed limits only."]
    profile = Reference.load(path).profile
    counts, ranges = profile.counts(profile.whole), []
    for name in STATISTICS:
        if name in profile.layout.edges:
            edges, inside = profile.layout.arrays[name], counts[name][1:-1]
            shares = np.cumsum(inside) / max(1, inside.sum())
            low, high = edges[np.searchsorted(shares, 0.05)], edges[np.searchsorted(shares, 0.95) + 1]
            ranges.append(f"{name} {low:.3g} to {high:.3g}")
    return [f"About nine in ten of the photos it was validated on have {', '.join(ranges)} (after preprocessing)."]


def limits(facts: ModelFacts, figures: Figures | None) -> list[str]:
    """What is known to be weak, and what is not known."""
    lines = []
    if figures:
        for name, share in figures.recall.items():
            if share.value < _POOR_RECALL:
                recall = f"recall {share.value:.2f} ({share.low:.2f} - {share.high:.2f})"
                lines.append(f"- Misses {clean(name)} often: {recall} on {share.n} photos.")
    lines += [f"- {sentence}" for sentence in _confounded(facts)]
    return [
        *lines,
        "- Cameras and clinics other than those of its photos: unknown, and usually worse.",
        "- No ethnicity is known of the photos; what is known of age and sex stands under Fairness.",
    ]


def _confounded(facts: ModelFacts) -> list[str]:
    """What tells the source apart may pass for the disease."""
    kinds = [row for row in facts.provenance.get("data", {}).get("photos", []) if row["split"] == "train"]
    rows = pd.DataFrame(kinds, columns=["label", "source"])
    return [
        f"All training photos of {clean(label)} come from the source {clean(source)}: "
        "what tells the source apart may pass for the disease."
        for label, source in class_of_one_source(rows).items()
    ]


def gate(judgement: GateJudgement | None, checks: Sequence[GateCheck]) -> list[str]:
    """The verdict, and the checks that are given."""
    if judgement is None:
        return ["Has not run on this version yet."]
    refused = [clean(check.reason, _LONGEST_REASON) for check in checks if not check.passed]
    verdict = f"Refused: {'; '.join(refused)}." if refused else "Passed."
    lines = [f"{verdict} Judged on {judgement.basis}."]
    if any(check.passed for check in checks):
        lines += ["", "| check | found | asked for | |", "|---|---|---|---|"]
        lines += [f"| {clean(c.name)} | {clean(c.value)} | {clean(c.limit)} | {c.verdict} |" for c in checks]
    return lines


def _share(share: Share) -> str:
    return f"{share.value:.3f} | {share.low:.3f} - {share.high:.3f}"


def lowered(text: str) -> str:
    """Headings two levels down, so that they stand below the card's own."""
    return "\n".join(f"##{line}" if line.startswith("#") else line for line in text.strip().splitlines())
