"""The gate's rules, on answers made up for the purpose."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from eye_disease.evaluation.breakdown import Breakdown
from eye_disease.evaluation.figures import Figures, measure
from eye_disease.evaluation.manifest import DataError
from eye_disease.evaluation.parts import Answers
from eye_disease.registry.gate.checks import GateCheck, JudgedAnswers, absolute, answer_problem, as_table, paired
from eye_disease.registry.gate.judge import comparable, judge_by_package, judge_by_photos
from eye_disease.registry.gate.labelled_photos import LabelledPhotos
from eye_disease.registry.gate.settings import GateSettings
from eye_disease.registry.versions import FetchedVersion
from model_code.package import ModelFacts
from model_code.schema import empty_answer
from tests.support.answers import answering, labelled, seeing
from tests.support.photos import PACKAGE

CLASSES = ("a", "b")
SETTINGS = GateSettings(min_photos=10, min_accuracy=0.7, min_macro_f1=0.7, min_recall=0.6, max_calibration_error=0.3)


def test_a_limit_itself_passes_and_what_is_no_number_does_not() -> None:
    assert GateCheck.at_most("loss", 0.95 - 0.90, 0.05, "GATE_X").passed
    assert GateCheck.at_least("share", 0.1 + 0.2, 0.3, "GATE_X").passed
    assert not GateCheck.at_least("share", float("nan"), 0.3, "GATE_X").passed
    assert not GateCheck.at_most("loss", float("nan"), 0.3, "GATE_X").passed
    refused = GateCheck.at_least("accuracy", 0.61234, 0.75, "GATE_MIN_ACCURACY", 90)
    assert refused.reason == "accuracy is 0.6123 on 90 photos, but at least 0.75 is asked for (GATE_MIN_ACCURACY)"


def test_the_table_shows_every_check_and_why_it_refuses() -> None:
    lines = as_table([GateCheck.at_most("latency", 5, 9, "X"), GateCheck.fact("canary", "wrong", "right", "confidence is 0.1")])
    assert [line.split()[0] for line in lines] == ["check", "latency", "canary", "refused:"]
    assert lines[1].endswith("ok")
    assert lines[2].endswith("REFUSED")
    assert lines[3] == "refused: canary: confidence is 0.1"


def _answer(name: str, confidence: float = 0.9, **changes: Any) -> dict[str, Any]:
    other = CLASSES[1 - CLASSES.index(name)]
    known = {"predicted_class": name, f"prob_{name}": confidence, f"prob_{other}": 1 - confidence, "decision": "report"}
    return empty_answer(CLASSES) | known | changes


def _unread(code: str) -> dict[str, Any]:
    return empty_answer(CLASSES) | {"error": "x", "error_code": code}


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (_answer("a"), ""),
        ({"predicted_class": "a"}, "lacks the columns"),
        (_unread("internal_error"), "the error internal_error"),
        (_answer("a", prob_b=0.9), "not shares that add up to 1"),
        (_answer("a", prob_a=None), "not shares"),
        (_answer("a", predicted_class="b"), "is not the likeliest"),
        (_answer("a", decision="treat"), "decision 'treat' is not known"),
    ],
)
def test_a_wrong_answer_is_told_from_a_right_one(answer: dict[str, Any], problem: str) -> None:
    assert problem in answer_problem(answer, CLASSES)
    assert bool(answer_problem(answer, CLASSES)) == bool(problem)


def _judged(right: dict[str, tuple[int, int]], confidence: float = 0.8) -> JudgedAnswers:
    """right: class -> (rightly answered, photos)."""
    probabilities, labels = [], []
    for code, (hits, photos) in enumerate(right.values()):
        for i in range(photos):
            answer = code if i < hits else 1 - code
            probabilities.append([confidence, 1 - confidence] if answer == 0 else [1 - confidence, confidence])
            labels.append(code)
    scores, codes = np.array(probabilities), np.array(labels)
    figures = measure(scores, codes, tuple(right), np.full(len(codes), "x"))
    rows = pd.DataFrame({"label": np.array(tuple(right))[codes], "source": "x", "group": range(len(codes)), "grade": np.nan})
    breakdown = Breakdown.of(Answers(tuple(right), scores, rows.assign(age=np.nan, sex=np.nan)))
    return JudgedAnswers(scores, scores.argmax(axis=1) == codes, figures, breakdown)


def _refused(checks: list[GateCheck]) -> list[str]:
    return [check.name for check in checks if not check.passed]


def test_limits_of_a_version_by_itself() -> None:
    good = _judged({"a": (18, 20), "b": (17, 20)})
    assert _refused(absolute(good.figures, CLASSES, SETTINGS)) == []
    poor = _judged({"a": (20, 20), "b": (5, 20)}, confidence=0.99)
    assert _refused(absolute(poor.figures, CLASSES, SETTINGS)) == [
        "accuracy",
        "macro-F1",
        "recall of b",
        "calibration error",
    ]
    few = replace(SETTINGS, min_photos=41)
    assert _refused(absolute(good.figures, CLASSES, few)) == ["labelled photos"]


def test_a_class_that_no_photo_shows_cannot_be_judged() -> None:
    figures = measure(np.array([[0.9, 0.1]] * 12), np.zeros(12, int), CLASSES, np.full(12, "x"))
    (refused,) = [check for check in absolute(figures, CLASSES, SETTINGS) if not check.passed]
    assert refused.reason == "recall of b: no labelled photo shows this class, so it cannot be judged"


def test_a_version_is_refused_for_being_worse_in_any_of_three_ways() -> None:
    before = _judged({"a": (90, 100), "b": (90, 100)})
    assert _refused(paired(before, before, SETTINGS)) == []
    assert _refused(paired(before, _judged({"a": (94, 100), "b": (86, 100)}), SETTINGS)) == []
    traded = _judged({"a": (100, 100), "b": (84, 100)})  # as good on the whole, but a class pays for it
    assert _refused(paired(before, traded, SETTINGS)) == ["loss of recall of b"]
    slightly = _judged({"a": (86, 100), "b": (86, 100)})  # 8 lost, none won: p = 0.004, each class within its limit
    assert _refused(paired(before, slightly, SETTINGS)) == ["paired test against Production"]
    sure = _judged({"a": (90, 100), "b": (90, 100)}, confidence=1.0)
    assert _refused(paired(_judged({"a": (90, 100), "b": (90, 100)}, 0.9), sure, SETTINGS)) == ["rise of calibration error"]


def _photos(labels: str) -> LabelledPhotos:
    rows = pd.DataFrame({"file": [Path("x")] * len(labels), "label": list(labels), "source": ["s"] * len(labels)})
    rows = rows.assign(sha256=[f"{i:064x}" for i in range(len(labels))], group=range(len(labels)))
    return LabelledPhotos(rows.assign(grade=np.nan, age=np.nan, sex=np.nan), 0, 0)


def test_changed_answers_are_listed_by_digest() -> None:
    photos, now = _photos("aaaabbbb"), [_answer(name) for name in "aabbbbab"]
    judgement = judge_by_photos(photos, CLASSES, now, [_answer(name) for name in "abababbb"], replace(SETTINGS, min_photos=1))
    assert judgement.changed is not None
    assert judgement.changed[["photo", "change"]].to_numpy().tolist() == [
        [f"{1:064x}"[:16], "won"],
        [f"{2:064x}"[:16], "lost"],
        [f"{4:064x}"[:16], "won"],
        [f"{6:064x}"[:16], "lost"],
    ]
    assert "file" not in judgement.changed.columns
    assert judgement.basis == f"8 labelled photos (set {photos.digest[:16]})"


def test_production_may_have_its_classes_in_another_order() -> None:
    """The answers name the classes, so only the names count."""
    answers = [_answer(name) for name in "ab" * 6]
    turned = [dict(reversed(answer.items())) for answer in answers]
    judgement = judge_by_photos(_photos("ab" * 6), CLASSES, answers, turned, SETTINGS)
    assert judgement.changed is not None
    assert len(judgement.changed) == 0


def test_photos_nobody_can_read_are_counted_and_photos_only_the_candidate_fails_on_count_against_it() -> None:
    photos, good = _photos("ab" * 30), [_answer(name) for name in "ab" * 30]
    torn = [_unread("image_corrupt"), *good[1:]]
    judgement = judge_by_photos(photos, CLASSES, torn, torn, SETTINGS)
    assert _refused(judgement.checks) == []
    (unreadable,) = [check.value for check in judgement.checks if check.name == "unreadable photos"]
    assert unreadable == "1 of 60 photos (image_corrupt 1)"
    assert judgement.candidate is not None
    assert judgement.candidate.figures.accuracy.n == 59

    assert _refused(judge_by_photos(photos, CLASSES, torn, good, SETTINGS).checks) == ["photos that it fails on"]
    failed = [_unread("internal_error"), *good[1:]]
    assert _refused(judge_by_photos(photos, CLASSES, failed, None, SETTINGS).checks) == ["photos that it fails on"]
    assert _refused(judge_by_photos(photos, CLASSES, good, torn, SETTINGS).checks) == []  # better than Production in this

    many = [_unread("image_corrupt")] * 4 + good[4:]
    assert _refused(judge_by_photos(photos, CLASSES, many, None, SETTINGS).checks) == ["unreadable photos"]


def test_what_cannot_be_judged_is_an_error_and_no_verdict() -> None:
    with pytest.raises(DataError, match=r"labels \['c'\] are not among the model's classes \['a', 'b'\]"):
        judge_by_photos(_photos("abc"), CLASSES, [_answer("a")] * 3, None, SETTINGS)
    with pytest.raises(DataError, match="None of the 2 labelled photos can be read"):
        judge_by_photos(_photos("ab"), CLASSES, [_unread("format_unsupported")] * 2, None, SETTINGS)


def test_figures_kept_in_the_package_are_judged_where_there_are_no_photos() -> None:
    facts = ModelFacts.load(PACKAGE)
    judgement = judge_by_package(facts, GateSettings())
    assert _refused(judgement.checks) == []
    figures = Figures.from_dict(facts.provenance["validation"])
    n = figures.accuracy.n
    assert judgement.basis == f"the figures kept in the package ({n} validation photos), since no labelled photos were given"
    worst, second = sorted(figures.recall, key=lambda name: figures.recall[name].value)[:2]
    between = (figures.recall[worst].value + figures.recall[second].value) / 2
    assert _refused(judge_by_package(facts, GateSettings(min_recall=between)).checks) == [f"recall of {worst}"]
    unknown = judge_by_package(replace(facts, provenance={}), GateSettings())
    assert "keeps no validation figures" in unknown.checks[0].reason
    assert "--data" in unknown.checks[0].reason
    with pytest.raises(ValueError, match="not the figures of a classifier"):
        judge_by_package(replace(facts, provenance={"validation": {"accuracy": 0.9}}), GateSettings())


def _by_age(settings: GateSettings, worse: float) -> list[GateCheck]:
    """A version that answers every photo of the young rightly, and a share of those of the old."""
    photos = _photos("ab" * 200)
    old = np.arange(400) % 4 < 2
    photos = replace(photos, rows=photos.rows.assign(age=np.where(old, 75.0, 45.0), sex="F"))
    missed = old & (np.random.default_rng(0).random(400) < worse)
    answers = [_answer("ab"[(i + wrong) % 2]) for i, wrong in enumerate(missed)]
    return [check for check in judge_by_photos(photos, CLASSES, answers, None, settings).checks if "fairness" in check.name]


def test_a_gap_between_groups_is_warned_of_and_refused_where_a_setting_says_so() -> None:
    warned, sex = _by_age(SETTINGS, worse=0.4)
    assert (warned.name, warned.passed, warned.verdict) == ("fairness by age", True, "WARNING")
    assert "accuracy, age 70 and over: 0." in warned.warning and "the others 1.000 (p = 0.0" in warned.warning
    assert any(line.startswith("warning: fairness by age: ") for line in as_table([warned]))
    assert (sex.name, sex.verdict) == ("fairness by sex", "ok"), "all of one sex: nothing to compare"
    (refused, _) = _by_age(replace(SETTINGS, max_group_gap=0.1), worse=0.4)
    assert not refused.passed
    assert refused.reason.startswith("fairness by age: ")
    (allowed, _) = _by_age(replace(SETTINGS, max_group_gap=0.9), worse=0.4)
    assert allowed.verdict == "WARNING"


def test_a_gap_that_chance_explains_refuses_nothing() -> None:
    (fair, _) = _by_age(replace(SETTINGS, max_group_gap=0.0), worse=0.005)
    assert fair.verdict == "ok"
    assert "within chance" in fair.value or fair.value == "no gap"


def test_no_group_is_judged_where_neither_age_nor_sex_is_known() -> None:
    checks = judge_by_photos(_photos("ab" * 20), CLASSES, [_answer(name) for name in "ab" * 20], None, SETTINGS).checks
    assert not [check for check in checks if "fairness" in check.name]


def test_gaps_kept_in_the_package_are_judged_too() -> None:
    rows = labelled(400)
    answers = answering(rows, np.where((rows["age"] >= 70).to_numpy()[:, None], np.eye(4)[0], 5 * seeing(rows)))
    facts = ModelFacts.load(PACKAGE)
    recorded = replace(facts, provenance=facts.provenance | Breakdown.of(answers).as_dict())
    refused = [check for check in judge_by_package(recorded, GateSettings(max_group_gap=0.2)).checks if not check.passed]
    assert [check.name for check in refused] == ["fairness by age"]


def test_kept_figures_come_back_as_they_were() -> None:
    figures = _judged({"a": (18, 20), "b": (17, 20)}).figures
    assert Figures.from_dict(figures.as_dict() | {"more": 1}) == figures
    one_class = measure(np.array([[0.9, 0.1]]), np.zeros(1, int), CLASSES, np.array(["x"]))
    assert one_class.as_dict()["macro_auroc"] is None
    assert np.isnan(Figures.from_dict(one_class.as_dict()).macro_auroc)


def _version(folder: Path, number: str, **changes: Any) -> FetchedVersion:
    package = folder / number / "artifacts" / "package"
    package.mkdir(parents=True)
    (folder / number / "requirements.txt").write_text("mlflow==1\n")
    replace(ModelFacts.load(PACKAGE), **changes).save(package)
    return FetchedVersion("m", number, folder / number)


def test_when_a_version_can_be_compared_with_production(tmp_path: Path) -> None:
    first, same = _version(tmp_path, "1"), _version(tmp_path, "2")
    other, foreign = _version(tmp_path, "3", temperature=2.0), _version(tmp_path, "4", classes=("a", "b"))
    (same.package / "MODEL_CARD.md").write_text("words change no answer")
    assert comparable(first, None, labelled=False).passed
    assert comparable(same, first, labelled=False).value == "the same package and code as version 1"
    assert comparable(other, first, labelled=True).passed
    unlabelled = comparable(other, first, labelled=False)
    assert not unlabelled.passed
    assert "version 1 is in Production and no labelled photos were given" in unlabelled.reason
    assert "--data" in unlabelled.reason
    assert "belongs under another name" in comparable(foreign, first, labelled=True).reason
