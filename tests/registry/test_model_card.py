import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eye_disease.evaluation.breakdown import Breakdown
from eye_disease.evaluation.figures import Figures
from eye_disease.evaluation.shares import Share
from eye_disease.registry import card_sections as sections
from eye_disease.registry.gate.checks import GateCheck
from eye_disease.registry.gate.judge import GateJudgement
from eye_disease.registry.model_card import (
    AUTHORS_CARD,
    MAX_DESCRIPTION,
    EarlierVersion,
    change_history,
    description,
    model_card,
)
from eye_disease.registry.versions import FetchedVersion
from model_code.package import ModelFacts, Statistics
from model_code.preprocessing import Recipe
from model_code.promise import Bounded, Promise
from tests.support.answers import answering, labelled, seeing
from tests.support.photos import PACKAGE

BUNDLED = ModelFacts.load(PACKAGE)


@pytest.fixture
def bundled(tmp_path: Path) -> FetchedVersion:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "package").symlink_to(PACKAGE)
    (tmp_path / "requirements.txt").write_text("mlflow==1\n")
    return FetchedVersion("eye", "3", tmp_path)


@pytest.fixture
def own(tmp_path: Path) -> FetchedVersion:
    """As `register.py register --model` makes it: no figures, no limits, no reference."""
    package = tmp_path / "artifacts" / "package"
    package.mkdir(parents=True)
    recipe = Recipe(96, crop="none", scaling="tf")
    ModelFacts("own", ("drusen", "healthy"), recipe, provenance={"description": "own model best_model.keras"}).save(package)
    Statistics().save(package)
    (tmp_path / "requirements.txt").write_text("mlflow==1\n")
    return FetchedVersion("own", "1", tmp_path)


@pytest.fixture
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eye_disease.registry.model_card.earlier_versions", lambda name, version: [])


@pytest.mark.usefixtures("_alone")
def test_the_card_of_the_bundled_model_has_every_section_and_its_makers_words(bundled: FetchedVersion) -> None:
    card = model_card(bundled)
    headings = [line for line in card.splitlines() if line.startswith(("# ", "## "))]
    assert headings == [
        "# eye, version 3",
        *(f"## {name}" for name in ("Intended use", "Model", "Data and split", "Figures", "Within a source")),
        *(f"## {name}" for name in ("Promise", "Fairness", "Calibration", "Input envelope")),
        *(f"## {name}" for name in ("Limits", "Gate", "Change history", "Authors' notes")),
    ]
    assert "Not a medical device" in card
    share = Figures.from_dict(BUNDLED.provenance["validation"]).accuracy
    assert f"| accuracy | {share.value:.3f} | {share.low:.3f} - {share.high:.3f} | {share.n} |" in card
    assert "Has not run on this version yet." in card
    assert "The first version." in card
    assert "sharpness" in card.split("## Input envelope")[1].split("##")[0]
    assert f"#{(PACKAGE / AUTHORS_CARD).read_text().splitlines()[0]}" in card.split("## Authors' notes")[1]


@pytest.mark.usefixtures("_alone")
def test_the_card_of_a_model_of_ones_own_says_what_is_unknown(own: FetchedVersion) -> None:
    card = model_card(own)
    assert "Unknown: the package keeps no validation figures" in card
    assert "Training data and split: not recorded" in card
    assert "Figures within a source: not recorded." in card
    assert "Nothing is promised of answers with decision `report`." in card
    assert "Neither age nor sex is known" in card
    assert "does not notice photos unlike its training photos" in card
    assert "does not notice ungradable photos" in card
    assert "drift can be judged by fixed limits only" in card
    assert "Temperature: not fitted. Calibration error: unknown." in card
    assert "nan" not in card
    assert "None" not in card


def test_the_description_is_short_and_says_where_the_card_is(bundled: FetchedVersion) -> None:
    text = description(bundled, "run-7")
    assert len(text) <= MAX_DESCRIPTION
    assert text.endswith("Whole card: `model_card.md` of run run-7.")
    assert "| recall glaucoma |" in text


def test_a_long_description_is_cut_between_lines(bundled: FetchedVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = Figures.from_dict(BUNDLED.provenance["validation"])
    many = replace(figures, recall={f"a class with a long name {i}": figures.accuracy for i in range(200)})
    monkeypatch.setattr(sections, "figures_of", lambda facts, judgement: many)
    text = description(bundled, "run-7")
    assert len(text) <= MAX_DESCRIPTION
    assert text.endswith("|\n...\n\nWhole card: `model_card.md` of run run-7.")


def test_the_gates_verdict_stands_in_the_description(bundled: FetchedVersion) -> None:
    judged = GateJudgement("40 labelled photos (set ab)", [])
    checks = [GateCheck.at_most("latency", 5, 9, "X"), GateCheck.fact("canary photo", "wrong", "right", "confidence is 0.1")]
    text = description(bundled, "run-7", judged, checks)
    assert "Refused: canary photo: confidence is 0.1. Judged on 40 labelled photos (set ab)." in text
    assert "latency" not in text
    assert "| latency | 5 | at most 9 | ok |" in "\n".join(sections.gate(judged, checks))
    assert sections.gate(judged, checks[:1])[0] == "Passed. Judged on 40 labelled photos (set ab)."


def _with_breakdown() -> tuple[ModelFacts, Breakdown]:
    """A model that is blind for the old."""
    rows = labelled(600)
    scores = np.where((rows["age"] >= 70).to_numpy()[:, None], np.eye(4)[0], seeing(rows))
    breakdown = Breakdown.of(answering(rows, scores, np.arange(600) % 2 == 0))
    return replace(BUNDLED, provenance=json.loads(json.dumps(breakdown.as_dict()))), breakdown


def test_the_figures_within_each_source_stand_beside_the_pooled_ones() -> None:
    facts, breakdown = _with_breakdown()
    text = "\n".join(sections.within_source(sections.breakdown_of(facts, None)))
    for separation in breakdown.within.separations:
        auroc = separation.auroc
        figures = f"{auroc.value:.3f} | {auroc.low:.3f} - {auroc.high:.3f}"
        assert f"| {separation.name} | {separation.source} | {figures} |" in text
    north = breakdown.within.sources["north"]
    assert f"| north | {north.accuracy.n} | {north.accuracy.value:.3f} (" in text
    assert f"{north.error_among_reported.value:.3f} ({north.error_among_reported.low:.3f}" in text
    assert text.index("| glaucoma | all sources |") < text.index("| glaucoma | north |")


def test_fairness_shows_every_group_and_names_who_fares_worse() -> None:
    facts, breakdown = _with_breakdown()
    text = "\n".join(sections.fairness(sections.breakdown_of(facts, None)))
    old = breakdown.groups.parts["age"]["70 and over"]
    assert (
        f"| 70 and over | {old.accuracy.n} | {old.accuracy.value:.3f} ({old.accuracy.low:.3f} - {old.accuracy.high:.3f}) |"
        in text
    )
    assert "| age | photos | accuracy | recall cataract | recall diabetic_retinopathy |" in text
    assert "Worse than the others by more than chance explains:" in text
    assert "- accuracy, age 70 and over: " in text
    assert "sex F" not in text.split("Worse than")[1]


def test_the_promise_stands_in_card_and_description(bundled: FetchedVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    promised = Promise(0.08, 0.05, 0.95, 0.71, Bounded(14, 310, 0.0692), Bounded(2, 180, 0.0345), 0.641, 640)
    text = "\n".join(sections.promise(replace(BUNDLED, promise=promised)))
    assert "at most 8% are wrong" in text and "at most 5% are reported as normal: with 95% confidence" in text
    assert "| wrong among reported | 14 of 310 | 0.069 | 0.08 |" in text
    assert "| missed | 2 of 180 | 0.034 | 0.05 |" in text or "| missed | 2 of 180 | 0.035 | 0.05 |" in text
    assert "64.1% of the validation photos were reported." in text
    monkeypatch.setattr(FetchedVersion, "facts", replace(BUNDLED, promise=promised))
    assert text.splitlines()[0] in description(bundled, "run-7")
    nothing = replace(BUNDLED, promise=Promise(0.08, 0.05, 0.95, None, None, None, 0.0, 640))
    assert "so nothing is reported" in sections.promise(nothing)[0]


def _trained(photos: list[tuple[str, str, str, int]], groups: int) -> ModelFacts:
    rows: list[dict[str, Any]] = [dict(zip(("split", "label", "source", "photos"), row, strict=True)) for row in photos]
    return ModelFacts("m", ("a", "b", "c"), Recipe(96), provenance={"data": {"photos": rows, "groups": groups}})


def test_a_class_from_a_source_of_its_own_is_named_as_a_limit() -> None:
    apart = _trained([("train", "a", "x", 9), ("train", "b", "y", 9), ("train", "c", "x", 5), ("train", "c", "y", 5)], 20)
    text = "\n".join(sections.limits(apart, None))
    assert "All training photos of a come from the source x" in text
    assert "All training photos of b come from the source y" in text
    assert "photos of c" not in text
    one_source = _trained([("train", name, "x", 9) for name in "abc"], 20)
    assert "All training photos" not in "\n".join(sections.limits(one_source, None))


def test_the_data_say_how_far_patients_are_kept_apart() -> None:
    photos = [("train", "a", "x", 9), ("val", "a", "x", 3)]
    assert "The 12 photos are of 7 groups (patients); none lies in both splits." in sections.data(_trained(photos, 7))
    assert "photos of one patient may lie in both splits" in sections.data(_trained(photos, 12))[-1]
    assert "| val | a | x | 3 |" in sections.data(_trained(photos, 7))


def test_a_class_that_is_often_missed_is_named_as_a_limit() -> None:
    figures = Figures.from_dict(BUNDLED.provenance["validation"])
    poor, good = Share(0.7, 0.6, 0.8, 50), Share(0.9, 0.8, 0.95, 50)
    text = "\n".join(sections.limits(BUNDLED, replace(figures, recall={"glaucoma": poor, "normal": good})))
    assert "Misses glaucoma often: recall 0.70 (0.60 - 0.80) on 50 photos." in text
    assert text.count("Misses") == 1


def test_earlier_versions_are_the_change_history() -> None:
    when = datetime(2026, 3, 1, tzinfo=UTC)
    rows = change_history(
        [EarlierVersion("2", when, "Production", "passed", 0.91), EarlierVersion("1", when, "None", "", None)]
    )
    assert rows[-2:] == [
        "| 2 | 2026-03-01 | Production | passed | 0.910 |",
        "| 1 | 2026-03-01 | None | not run | not recorded |",
    ]
