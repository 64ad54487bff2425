from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from eye_disease.evaluation.figures import Figures
from eye_disease.evaluation.shares import Share
from eye_disease.registry import card_sections as sections
from eye_disease.registry.card_history import Ancestor
from eye_disease.registry.gate.checks import Check
from eye_disease.registry.gate.judge import Judgement
from eye_disease.registry.model_card import AUTHORS_CARD, MAX_DESCRIPTION, description, model_card
from eye_disease.registry.versions import FetchedVersion
from model_code.package import ModelFacts, Statistics
from model_code.preprocessing import Recipe
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
    monkeypatch.setattr("eye_disease.registry.model_card.ancestors", lambda name, version: [])


@pytest.mark.usefixtures("_alone")
def test_the_card_of_the_bundled_model_has_every_section_and_its_makers_words(bundled: FetchedVersion) -> None:
    card = model_card(bundled)
    headings = [line for line in card.splitlines() if line.startswith(("# ", "## "))]
    assert headings == [
        "# eye, version 3",
        *(f"## {name}" for name in ("Intended use", "Model", "Data and split", "Figures", "Calibration", "Input envelope")),
        *(f"## {name}" for name in ("Limits", "Gate", "Change history", "What its makers say")),
    ]
    assert "Not a medical device" in card
    share = Figures.from_dict(BUNDLED.provenance["validation"]).accuracy
    assert f"| accuracy | {share.value:.3f} | {share.low:.3f} - {share.high:.3f} | {share.n} |" in card
    assert "Has not run on this version yet." in card
    assert "The first version." in card
    assert "sharpness" in card.split("## Input envelope")[1].split("##")[0]
    assert f"#{(PACKAGE / AUTHORS_CARD).read_text().splitlines()[0]}" in card.split("## What its makers say")[1]


@pytest.mark.usefixtures("_alone")
def test_the_card_of_a_model_of_ones_own_says_what_is_unknown(own: FetchedVersion) -> None:
    card = model_card(own)
    assert "Unknown: the package keeps no validation figures" in card
    assert "Training data and split: not recorded" in card
    assert "does not notice photos unlike its training photos" in card
    assert "does not notice ungradable photos" in card
    assert "drift can be judged by fixed limits only" in card
    assert "Temperature: not fitted. Calibration error: unknown." in card
    assert "nan" not in card
    assert "None" not in card


def test_the_description_is_short_and_says_where_the_card_is(bundled: FetchedVersion) -> None:
    said = description(bundled, "run-7")
    assert len(said) <= MAX_DESCRIPTION
    assert said.endswith("Whole card: `model_card.md` of run run-7.")
    assert "| recall glaucoma |" in said


def test_a_long_description_is_cut_between_lines(bundled: FetchedVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = Figures.from_dict(BUNDLED.provenance["validation"])
    many = replace(figures, recall={f"a class with a long name {i}": figures.accuracy for i in range(200)})
    monkeypatch.setattr(sections, "figures_of", lambda facts, judgement: many)
    said = description(bundled, "run-7")
    assert len(said) <= MAX_DESCRIPTION
    assert said.endswith("|\n...\n\nWhole card: `model_card.md` of run run-7.")


def test_the_gates_verdict_stands_in_the_description(bundled: FetchedVersion) -> None:
    judged = Judgement("40 labelled photos (set ab)", [])
    checks = [Check.at_most("latency", 5, 9, "X"), Check.fact("canary photo", "wrong", "right", "confidence is 0.1")]
    said = description(bundled, "run-7", judged, checks)
    assert "Refused: canary photo: confidence is 0.1. Judged on 40 labelled photos (set ab)." in said
    assert "latency" not in said
    assert "| latency | 5 | at most 9 | ok |" in "\n".join(sections.gate(judged, checks))
    assert sections.gate(judged, checks[:1])[0] == "Passed. Judged on 40 labelled photos (set ab)."


def _trained(photos: list[tuple[str, str, str, int]], groups: int) -> ModelFacts:
    rows: list[dict[str, Any]] = [dict(zip(("split", "label", "source", "photos"), row, strict=True)) for row in photos]
    return ModelFacts("m", ("a", "b", "c"), Recipe(96), provenance={"data": {"photos": rows, "groups": groups}})


def test_a_class_from_a_source_of_its_own_is_named_as_a_limit() -> None:
    apart = _trained([("train", "a", "x", 9), ("train", "b", "y", 9), ("train", "c", "x", 5), ("train", "c", "y", 5)], 20)
    said = "\n".join(sections.limits(apart, None))
    assert "All training photos of a come from the source x" in said
    assert "All training photos of b come from the source y" in said
    assert "photos of c" not in said
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
    said = "\n".join(sections.limits(BUNDLED, replace(figures, recall={"glaucoma": poor, "normal": good})))
    assert "Misses glaucoma often: recall 0.70 (0.60 - 0.80) on 50 photos." in said
    assert said.count("Misses") == 1


def test_earlier_versions_are_the_change_history() -> None:
    when = datetime(2026, 3, 1, tzinfo=UTC)
    rows = sections.change_history([Ancestor("2", when, "Production", "passed", 0.91), Ancestor("1", when, "None", "", None)])
    assert rows[-2:] == [
        "| 2 | 2026-03-01 | Production | passed | 0.910 |",
        "| 1 | 2026-03-01 | None | not run | not recorded |",
    ]
