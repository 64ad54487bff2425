import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from eye_disease.evaluation.parts import Part
from eye_disease.evaluation.within_source import POOLED, WithinSource, separations, within_source
from tests.support.answers import CLASSES, answering, labelled, seeing

DISEASE = "diabetic_retinopathy"
_PLACE = CLASSES.index(DISEASE)


def _aurocs(of_all: tuple, disease: str = DISEASE, least_grade: int | None = None) -> dict[str, float]:
    return {
        separation.source: separation.auroc.value
        for separation in of_all
        if (separation.disease, separation.least_grade) == (disease, least_grade)
    }


def test_a_network_that_tells_cameras_apart_is_found_out_within_a_source() -> None:
    """Nearly all of the disease comes from one source, and the network knows nothing but the source."""
    rows = labelled(2_000, labels=(DISEASE, "normal"))
    ill = (rows["label"] == DISEASE).to_numpy()
    rng = np.random.default_rng(1)
    mostly = np.where(ill, "hospital", "school")
    rows["source"] = np.where(np.repeat(rng.random(1_000) < 0.9, 2), mostly, np.where(ill, "school", "hospital"))
    scores = rng.normal(0, 1, (2_000, 4))
    scores[:, _PLACE] += 3.0 * (rows["source"] == "hospital")
    aurocs = {
        separation.source: separation.auroc
        for separation in separations(answering(rows, scores))
        if (separation.disease, separation.least_grade) == (DISEASE, None)
    }
    assert aurocs[POOLED].value > 0.85
    for source in ("hospital", "school"):
        assert aurocs[source].low < 0.5 < aurocs[source].high


def test_each_figure_is_that_of_the_photos_of_the_source() -> None:
    rows = labelled(600)
    answers = answering(rows, seeing(rows, skill=1.0))
    aurocs = _aurocs(separations(answers))
    for source in ("north", "south"):
        here = ((rows["source"] == source) & rows["label"].isin([DISEASE, "normal"])).to_numpy()
        expected = roc_auc_score(rows["label"][here] == DISEASE, answers.probabilities[here, _PLACE])
        assert aurocs[source] == pytest.approx(expected)
    assert list(aurocs) == [POOLED, "north", "south"]
    whole = within_source(answers)
    assert whole.sources["north"] == Part.of(answers.of((rows["source"] == "north").to_numpy()))
    assert list(whole.sources) == [POOLED, "north", "south"]


def test_referable_disease_stands_apart() -> None:
    """The network sees the disease from grade 2 on, and nothing of grade 1."""
    rows = labelled(1_200, labels=(DISEASE, "normal"))
    seen = rows.assign(label=rows["label"].where(~(rows["grade"] < 2), "normal"))
    of_all = separations(answering(rows, seeing(seen)))
    assert min(_aurocs(of_all, least_grade=2).values()) > 0.95 > max(_aurocs(of_all).values())
    separation = next(separation for separation in of_all if separation.least_grade and separation.source == "north")
    here = rows["source"] == "north"
    assert (separation.auroc.ill, separation.auroc.healthy) == (
        (here & (rows["grade"] >= 2)).sum(),
        (here & (rows["label"] == "normal")).sum(),
    )
    assert separation.name == "diabetic_retinopathy, grade 2 and above"
    without = separations(answering(rows.assign(grade=np.nan), seeing(rows)))
    assert not [separation for separation in without if separation.least_grade]


def test_a_photo_known_to_lack_the_one_disease_counts_against_it_alone() -> None:
    rows = labelled(900, labels=(*CLASSES, "not_glaucoma"), sources=("north",))
    healthy = {
        (separation.disease, separation.source): separation.auroc.healthy
        for separation in separations(answering(rows, seeing(rows)))
    }
    normal, not_glaucoma = ((rows["label"] == name).sum() for name in ("normal", "not_glaucoma"))
    assert healthy["glaucoma", "north"] == normal + not_glaucoma
    assert healthy["cataract", "north"] == normal


def test_a_source_without_both_sides_has_no_figure_of_its_own() -> None:
    rows = labelled(400, labels=(DISEASE, "normal"))
    rows["source"] = np.where(rows["label"] == DISEASE, "hospital", "school")
    assert list(_aurocs(separations(answering(rows, seeing(rows))))) == [POOLED]
    few = pd.concat([rows, labelled(8, seed=3, labels=(DISEASE,)).assign(source="school", group=list("ppqqrrss"))])
    assert list(_aurocs(separations(answering(few, seeing(few))))) == [POOLED], "four patients say nothing"


def test_the_decisions_are_part_of_the_figures_where_they_are_known() -> None:
    rows = labelled(400)
    scores, reported = seeing(rows, skill=1.0), np.arange(400) % 4 < 2
    whole = within_source(answering(rows, scores, reported))
    wrong = scores.argmax(axis=1) != rows["label"].map(CLASSES.index)
    for source, part in whole.sources.items():
        here = (rows["source"] == source).to_numpy() | (source == POOLED)
        assert part.reported is not None and part.reported.value == pytest.approx(reported[here].mean())
        assert part.error_among_reported is not None
        assert part.error_among_reported.value == pytest.approx(wrong[here & reported].mean())
    assert within_source(answering(rows, scores)).sources[POOLED].reported is None
    nothing = within_source(answering(rows, scores, np.zeros(400, bool))).sources[POOLED]
    assert (nothing.reported.value, nothing.error_among_reported) == (0, None)


def test_the_eyes_of_a_patient_widen_the_interval() -> None:
    rows = labelled(200)
    alike = answering(rows, np.repeat(seeing(rows, skill=0.8)[::2], 2, axis=0))
    apart = answering(rows.assign(group=rows["path"]), np.repeat(seeing(rows, skill=0.8)[::2], 2, axis=0))
    widths = [Part.of(answers).accuracy.high - Part.of(answers).accuracy.low for answers in (alike, apart)]
    assert widths[0] == pytest.approx(widths[1] * np.sqrt(2), rel=0.05)


def test_the_figures_survive_json_and_have_names_for_mlflow() -> None:
    rows = labelled(400)
    whole = within_source(answering(rows, seeing(rows), np.arange(400) % 2 == 0))
    assert WithinSource.from_dict(json.loads(json.dumps(whole.as_dict(), allow_nan=False))) == whole
    assert {
        "auroc_glaucoma",
        "auroc_glaucoma_source_north",
        "auroc_diabetic_retinopathy_grade_2_source_south",
        "error_among_reported",
        "error_among_reported_source_north",
        "macro_f1_source_south",
        "calibration_error_source_north",
    } <= set(whole.metrics())
    with pytest.raises(ValueError, match=r"These are not figures by source .KeyError: 'sources'"):
        WithinSource.from_dict({})
