import json

import numpy as np
import pandas as pd
import pytest

from eye_disease.evaluation.groups import Groups, by_group
from eye_disease.evaluation.parts import Answers
from tests.support.answers import answering, labelled, seeing


def _blind_to(rows: pd.DataFrame, hit: np.ndarray, seed: int = 0) -> Answers:
    """Answers that are worth nothing for the photos `hit`, bool (N,), and good for the others."""
    scores = np.where(hit[:, None], np.random.default_rng(seed).normal(0, 1, (len(rows), 4)), seeing(rows, seed=seed))
    return answering(rows, scores, np.ones(len(rows), bool))


def test_figures_by_age_band_and_sex() -> None:
    rows = labelled(400)
    groups = by_group(answering(rows, seeing(rows), np.arange(400) % 3 > 0))
    assert groups is not None
    assert list(groups.parts) == ["age", "sex"]
    assert list(groups.parts["age"]) == ["under 50", "50 to 59", "60 to 69", "70 and over"]
    assert list(groups.parts["sex"]) == ["F", "M"]
    counts = {name: part.accuracy.n for name, part in groups.parts["age"].items()}
    ages = rows["age"]
    assert counts["50 to 59"] == ((ages >= 50) & (ages < 60)).sum()
    assert counts["70 and over"] == (ages >= 70).sum()
    women = groups.parts["sex"]["F"]
    assert set(women.recall) == set(rows["label"])
    assert women.error_among_reported is not None


def test_a_group_that_fares_worse_is_named_with_all_its_figures() -> None:
    rows = labelled(800)
    groups = by_group(_blind_to(rows, (rows["age"] >= 70).to_numpy()))
    assert groups is not None
    unfair = groups.unfair(0.05)
    assert {gap.group for gap in unfair} == {"70 and over"}
    assert {"accuracy", "error among reported", "recall glaucoma"} <= {gap.figure for gap in unfair}
    worst = next(gap for gap in unfair if gap.figure == "accuracy")
    assert worst.loss == pytest.approx(worst.others - worst.value) and worst.loss > 0.4
    assert str(worst).startswith(f"accuracy, age 70 and over: {worst.value:.3f} on {worst.n} photos, the others 0.9")


def test_a_worse_sex_is_named_once() -> None:
    rows = labelled(800)
    groups = by_group(_blind_to(rows, (rows["sex"] == "M").to_numpy()))
    assert groups is not None
    assert [(gap.kind, gap.group) for gap in groups.unfair(0.05) if gap.figure == "accuracy"] == [("sex", "M")]


@pytest.mark.slow
def test_by_chance_a_gap_is_found_in_at_most_one_of_twenty_sets() -> None:
    """The photos of a patient share their fate, which photos counted one by one would take for a gap."""
    false_alarms = 0
    for seed in range(60):
        rows = labelled(240, seed=seed)
        unlucky = np.repeat(np.random.default_rng(seed).random(120) < 0.3, 2)
        groups = by_group(_blind_to(rows, unlucky, seed))
        assert groups is not None
        false_alarms += bool(groups.unfair(0.05))
    assert false_alarms <= 7, "3 are expected at most, more than 7 in one of a hundred runs"


def test_groups_too_small_to_compare_are_shown_all_the_same() -> None:
    rows = labelled(60)
    rows["sex"] = np.where(np.arange(60) < 10, "M", "F")
    groups = by_group(_blind_to(rows, (rows["sex"] == "M").to_numpy()))
    assert groups is not None
    assert groups.parts["sex"]["M"].accuracy.n == 10
    assert not [gap for gap in groups.gaps if gap.kind == "sex"]


def test_what_is_not_known_makes_no_group() -> None:
    rows = labelled(200)
    unknown = by_group(answering(rows.assign(age=np.nan, sex=np.nan), seeing(rows)))
    assert unknown is None
    half = rows.assign(age=np.nan, sex=rows["sex"].where(np.arange(200) < 100))
    groups = by_group(answering(half, seeing(rows)))
    assert groups is not None
    assert list(groups.parts) == ["sex"]
    assert sum(part.accuracy.n for part in groups.parts["sex"].values()) == 100


def test_the_figures_survive_json_and_have_names_for_mlflow() -> None:
    rows = labelled(300)
    groups = by_group(answering(rows, seeing(rows, skill=1.0), np.arange(300) % 2 == 0))
    assert groups is not None
    assert Groups.from_dict(json.loads(json.dumps(groups.as_dict(), allow_nan=False))) == groups
    assert {"accuracy_age_50_to_59", "error_among_reported_sex_F"} <= set(groups.metrics())
    with pytest.raises(ValueError, match=r"These are not figures by group .KeyError: 'parts'"):
        Groups.from_dict({})
