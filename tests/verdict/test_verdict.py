import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from eye_disease.evaluation.shares import Share
from eye_disease.profiles.layout import EMBEDDING, Layout
from eye_disease.profiles.profile import MAX_SITES, Profile
from eye_disease.profiles.reference import Reference
from eye_disease.verdict.check import Check, assign_levels
from eye_disease.verdict.explain import explain
from eye_disease.verdict.limits import DriftLimits
from eye_disease.verdict.realised import RealisedPerformance
from eye_disease.verdict.service import Health
from eye_disease.verdict.verdict import Verdict, judge
from model_code.promise import Bounded, Promise
from tests.support.drift_records import CLASSES, make_errors, make_records, replace_column

LIMITS = DriftLimits()


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.build(make_records(300, seed=1), CLASSES, "validation", "m")


def verdict(records: pa.Table, reference: Reference | None, limits: DriftLimits = LIMITS, **more: object) -> Verdict:
    layout = reference.layout if reference else Layout.generic(CLASSES)
    result = judge(Profile.from_table(records, layout), reference, limits, **more)
    assert json.dumps(result.to_json(), allow_nan=False)
    return result


def named(result: Verdict, source: str) -> list[tuple[str, str, str]]:
    return [(check.stream, check.statistic, check.level) for check in result.reasons if check.source == source]


def with_confidence(records: pa.Table, confidence: np.ndarray) -> pa.Table:
    records = replace_column(records, "low_confidence", confidence < 0.6)
    return replace_column(records, "confidence", confidence)


@pytest.mark.parametrize("n", [50, 300, 1_000])
def test_windows_like_the_reference_are_ok(reference: Reference, n: int) -> None:
    windows = [verdict(make_records(n, seed=100 + i, sites=("a", "b", None)), reference) for i in range(5)]
    assert [window.status for window in windows] == ["ok"] * 5
    assert all(window.kind is None and not window.reasons and not window.sites for window in windows)
    assert {window.n for window in windows} == {n}


@pytest.mark.parametrize("change", [{"sharpness": 0.6}, {"shift": 0.5}])
@pytest.mark.parametrize("n", [80, 200])
def test_other_photos_are_an_acquisition_shift(reference: Reference, change: dict[str, float], n: int) -> None:
    result = verdict(make_records(n, seed=3, **change), reference)
    assert (result.status, result.kind) == ("drift", "acquisition")
    streams = {check.stream for check in result.reasons}
    assert ("sharpness" in streams) is ("sharpness" in change)
    assert ("embedding" in streams) is ("shift" in change)


@pytest.mark.parametrize("mix", [(0.7, 0.1, 0.1, 0.1), (0.02, 0.32, 0.33, 0.33)])
def test_other_diseases_are_a_prevalence_shift(reference: Reference, mix: Sequence[float]) -> None:
    result = verdict(make_records(200, seed=4, mix=mix), reference)
    assert (result.status, result.kind) == ("drift", "prevalence")


def test_other_diseases_on_other_photos_are_an_acquisition_shift(reference: Reference) -> None:
    result = verdict(make_records(200, seed=5, mix=(0.7, 0.1, 0.1, 0.1), sharpness=0.6), reference)
    assert (result.status, result.kind) == ("drift", "acquisition")


@pytest.mark.slow
def test_a_trivial_shift_of_twenty_thousand_predictions_is_none() -> None:
    reference = Reference.build(make_records(3_000, seed=6), CLASSES, "v", "m")
    records = make_records(20_000, seed=7)
    slightly = replace_column(records, "brightness", records["brightness"].to_numpy() + 4)
    result = verdict(slightly, reference)
    check = next(check for check in result.checks if check.stream == "brightness")
    assert check.p_value is not None
    assert check.p_value < 1e-6
    assert (result.status, check.level) == ("ok", "ok")


def test_a_reason_names_stream_statistic_value_limit_and_n(reference: Reference) -> None:
    result = verdict(make_records(80, seed=8, sharpness=0.5), reference)
    reason = next(check for check in result.reasons if check.stream == "sharpness")
    assert str(reason) == f"sharpness: ks {reason.value:.3g}, limit {reason.limit:.3g}, n=80"
    assert reason.value > reason.limit
    assert reason.psi is not None
    assert reason.psi > 0.25
    assert str(reason) in result.to_json()["reasons"]


def test_a_bad_camera_in_one_clinic_is_found_although_the_whole_looks_fine(reference: Reference) -> None:
    good = make_records(900, seed=9, sites=[f"clinic-{i}" for i in range(9)])
    bad = make_records(80, seed=10, sites=["clinic-9"], sharpness=0.6)
    result = verdict(pa.concat_tables([good, bad]), reference)
    assert (result.status, result.kind, result.sites) == ("drift", "acquisition", {"clinic-9": "acquisition"})
    assert {check.site for check in result.reasons} == {"clinic-9"}
    assert str(result.reasons[0]).startswith("site clinic-9: sharpness: ks ")


def test_a_clinic_with_other_patients_is_a_prevalence_shift_of_its_own(reference: Reference) -> None:
    good = make_records(900, seed=11, sites=["a", "b"])
    other = make_records(150, seed=12, sites=["c"], mix=(0.05, 0.05, 0.85, 0.05))
    assert verdict(pa.concat_tables([good, other]), reference).sites == {"c": "prevalence"}


def test_small_sites_and_the_rest_beyond_the_bound_are_not_judged(reference: Reference) -> None:
    names = [f"site {i}" for i in range(2 * MAX_SITES)]
    result = verdict(make_records(500, seed=13, sites=names), reference)
    assert result.status == "ok"
    assert {check.site for check in result.checks} == {None}


def test_low_confidence_breaks_two_rules(reference: Reference) -> None:
    records = with_confidence(make_records(50, seed=14), np.full(50, 0.55))
    rules = named(verdict(records, reference), "rule")
    assert set(rules) == {("confidence", "mean", "drift"), ("low_confidence", "share", "drift")}


def test_slow_answers_break_a_rule(reference: Reference) -> None:
    records = replace_column(make_records(50, seed=15), "inference_time_ms", np.full(50, 5_001.0))
    result = verdict(records, reference)
    assert result.status == "drift"
    assert named(result, "rule") == [("inference_time_ms", "mean_latency", "drift")]
    assert str(result.reasons[0]) == "inference_time_ms: mean_latency 5,001 ms, limit 5,000 ms, n=50"
    exactly = replace_column(records, "inference_time_ms", np.full(50, 5_000.0))
    assert named(verdict(exactly, reference), "rule") == []


def test_one_class_for_nearly_everyone_breaks_a_rule(reference: Reference) -> None:
    records = replace_column(make_records(100, seed=16), "predicted_class", ["glaucoma"] * 81 + ["normal"] * 19)
    result = verdict(records, reference)
    assert ("predicted_class", "share", "drift") in named(result, "rule")
    assert "glaucoma" in " ".join(map(str, result.reasons))


def test_a_rule_broken_as_the_reference_breaks_it_is_a_warning() -> None:
    dull = with_confidence(make_records(400, seed=17), np.random.default_rng(0).uniform(0.4, 0.85, 400))
    reference = Reference.build(dull, CLASSES, "v", "m")
    window = with_confidence(make_records(60, seed=18), np.random.default_rng(1).uniform(0.4, 0.85, 60))
    result = verdict(window, reference)
    assert result.status == "warning"
    assert ("low_confidence", "share", "warning") in named(result, "rule")


def test_rules_and_service_are_judged_without_a_reference() -> None:
    assert verdict(make_records(60, seed=19), None).status == "ok"
    result = verdict(with_confidence(make_records(60, seed=19), np.full(60, 0.5)), None)
    assert (result.status, result.reference, result.kind) == ("drift", None, None)
    assert {check.source for check in result.checks} == {"rule", "service"}


def test_every_limit_can_be_moved(reference: Reference) -> None:
    records = make_records(150, seed=20, sharpness=0.6, mix=(0.7, 0.1, 0.1, 0.1))
    wide = replace(LIMITS, min_ks=1.0, min_js=1.0, min_mmd=2.0, min_domain_accuracy=1.0, min_share_change=1.0)
    assert verdict(records, reference).status == "drift"
    assert verdict(records, reference, wide).status == "ok"
    assert verdict(make_records(150, seed=21), reference, replace(LIMITS, max_class_share=0.1)).status == "warning"
    assert verdict(make_records(150, seed=21), reference, replace(LIMITS, min_predictions=151)).status == "insufficient_data"


@pytest.mark.parametrize("n", [0, 1, 2, 49])
def test_under_fifty_predictions_there_is_no_verdict(reference: Reference, n: int) -> None:
    result = verdict(make_records(n, seed=22, sharpness=0.1), reference)
    assert (result.status, result.n, result.kind) == ("insufficient_data", n, None)
    assert (result.estimate is None) is (n == 0)


def test_nothing_but_errors_is_bad_and_says_which(reference: Reference) -> None:
    result = verdict(make_errors(60), reference)
    assert (result.status, result.n, result.failed) == ("drift", 0, 60)
    assert str(result.reasons[0]) == "error_code: share 1, limit 0.05, n=60 (60 image_corrupt)"


def test_a_few_errors_in_a_small_window_are_a_warning(reference: Reference) -> None:
    result = verdict(pa.concat_tables([make_records(57, seed=23), make_errors(4)]), reference)
    assert (result.status, named(result, "service")) == ("warning", [("error_code", "share", "warning")])


def test_a_failing_probe_is_bad_whatever_the_records_say(reference: Reference) -> None:
    down = Health(up=False, reason="the canary's answer is wrong", response_time_ms=3.0, model_version="1")
    for n in (0, 100):
        result = verdict(make_records(n, seed=24), reference, health=down)
        assert result.status == "drift"
        assert "the canary's answer is wrong" in str(result.reasons[0])
    well = Health(up=True, reason=None, response_time_ms=3.0, model_version="1")
    assert verdict(make_records(100, seed=24), reference, health=well).status == "ok"


def test_lost_records_and_slow_tails_are_warnings(reference: Reference) -> None:
    records = make_records(100, seed=25)
    assert named(verdict(records, reference, missing_records=5), "service") == [("sequence", "lost_share", "warning")]
    assert verdict(records, reference, missing_records=1).status == "ok"
    lossy = replace_column(records, "lost_records", [7] + [0] * 99)
    assert "7 records lost" in str(verdict(lossy, reference, missing_records=7).reasons[0])
    slow = replace_column(records, "inference_time_ms", [20.0] * 95 + [60_000.0] * 5)
    assert named(verdict(slow, reference), "service") == [("inference_time_ms", "p99_latency", "warning")]


def realised(correct: int, labelled: int) -> RealisedPerformance:
    return RealisedPerformance(labelled, correct, None, {}, None, 0)


def test_labels_that_show_worse_answers_are_bad_although_the_photos_look_alike(reference: Reference) -> None:
    records = make_records(200, seed=26)
    result = verdict(records, reference, realised=realised(110, 200))
    assert (result.status, result.kind) == ("drift", None)
    assert named(result, "performance") == [("accuracy", "realised", "drift")]
    assert named(verdict(records, reference, realised=realised(6, 10)), "performance") == [("accuracy", "realised", "warning")]
    assert verdict(records, reference, realised=realised(165, 200)).status == "ok"
    assert verdict(records, reference, realised=realised(0, 0)).status == "ok"


def test_a_falling_estimate_is_bad(reference: Reference) -> None:
    records = make_records(200, seed=27)
    lower = with_confidence(records, records["confidence"].to_numpy() * 0.85)
    assert ("accuracy", "estimated", "drift") in named(verdict(lower, reference), "performance")


def test_a_profile_of_another_layout_is_refused(reference: Reference) -> None:
    with pytest.raises(ValueError, match=r"make it with `reference\.layout`"):
        judge(Profile.empty(Layout.generic(CLASSES)), reference, LIMITS)


def test_one_class_and_constant_columns_give_a_verdict() -> None:
    records = make_records(120, seed=28, mix=(1, 0, 0, 0))
    for name in ("sharpness", "ood_score", "confidence", "prob_cataract", "embedding_1"):
        records = replace_column(records, name, np.full(120, 0.97))
    records = replace_column(records, "predicted_class", ["cataract"] * 120)
    reference = Reference.build(records, CLASSES, "v", "m")
    assert verdict(records, reference).status in ("ok", "warning")  # one class for all is so in the reference, too
    changed = verdict(replace_column(records, "sharpness", np.full(120, 0.98)), reference)
    assert (changed.status, changed.kind) == ("drift", "acquisition")
    assert verdict(make_records(120, seed=29), reference).status == "drift"


def test_a_model_with_other_classes_and_only_probabilities_gives_a_verdict() -> None:
    classes = ("sick", "well")
    bare = ["sharpness", "brightness", "ood_score", "gradable", "out_of_distribution", *EMBEDDING]
    reference = Reference.build(make_records(300, seed=30, classes=classes).drop_columns(bare), classes, "v", "m")
    window = make_records(200, seed=31, classes=classes).drop_columns(bare)
    assert verdict(window, reference).status == "ok"
    result = verdict(make_records(200, seed=32, classes=classes, mix=(0.8, 0.2)).drop_columns(bare), reference)
    assert (result.status, result.kind) == ("drift", "prevalence")


def test_a_window_that_lacks_what_the_reference_has_gives_a_verdict(reference: Reference) -> None:
    bare = make_records(100, seed=33).drop_columns(["sharpness", "ood_score", "out_of_distribution", *EMBEDDING])
    result = verdict(bare, reference)
    assert result.status == "ok"
    assert not {"sharpness", "embedding"} & {check.stream for check in result.checks}


def test_a_drift_of_records_without_probabilities_is_called_acquisition(reference: Reference) -> None:
    bare = make_records(100, seed=34, sharpness=0.5).drop_columns([f"prob_{name}" for name in CLASSES])
    result = verdict(bare, reference)
    assert (result.status, result.kind) == ("drift", "acquisition")


def promised(wrong: int, reported: int) -> RealisedPerformance:
    return replace(realised(0, 0), error_among_reported=Share.exact(np.arange(reported) < wrong) if reported else None)


@pytest.mark.parametrize(
    ("wrong", "reported", "level"),
    [(0, 0, None), (4, 60, None), (8, 60, "warning"), (20, 60, "drift"), (60, 1_000, None), (160, 1_000, "drift")],
)
def test_the_promise_of_report_is_held_against_what_labels_say(
    wrong: int, reported: int, level: str | None, reference: Reference
) -> None:
    """8 % are promised: 8 of 60 may be chance, 20 of 60 are none."""
    promise = Promise(0.08, 0.05, 0.95, 0.7, Bounded(10, 300, 0.056), None, 0.6, 400)
    result = verdict(make_records(200, seed=26), reference, realised=promised(wrong, reported), promise=promise)
    assert [check for check in named(result, "performance") if check[0] == "report"] == (
        [] if level is None else [("report", "error_share", level)]
    )
    if level is not None:
        share = Share.exact(np.arange(reported) < wrong)
        assert (share.low > promise.max_error) >= (level == "drift"), "an alarm only where the lower bound exceeds the promise"
        message = next(str(check) for check in result.reasons if check.stream == "report")
        assert f"limit 0.08, reference 0.0333, n={reported}" in message
        assert f"labels show {share.low:.3f} to {share.high:.3f}" in message
    without = verdict(make_records(200, seed=26), reference, realised=promised(wrong, reported))
    assert not [check for check in without.checks if check.stream == "report"], "nothing is promised, nothing is broken"


def test_a_promise_is_judged_without_a_reference_too() -> None:
    promise = Promise(0.08, 0.05, 0.95, 0.7, None, None, 0.6, 400)
    result = verdict(make_records(200, seed=26), None, realised=promised(30, 60), promise=promise)
    assert named(result, "performance") == [("report", "error_share", "drift")]
    assert "have a specialist look at reported answers too" in explain(result)[1]


def test_chance_explains_what_holm_does_not_reject() -> None:
    def check(p_value: float | None, beyond: bool = True) -> Check:
        return Check("rule", "s", "mean", 2, 1, 10, beyond, p_value=p_value, insignificant="warning")

    levels = [made.level for made in assign_levels([check(0.004), check(0.02), check(None), check(0.001, beyond=False)], 0.01)]
    assert levels == ["drift", "warning", "drift", "ok"]


def test_real_photos_that_get_blurred_are_found(real_photos: pd.DataFrame) -> None:
    """Statistics of real photos, halves of which make the reference and the window."""
    from PIL import Image, ImageFilter

    from model_code.preprocessing import Recipe, field_of_view, prepare
    from model_code.quality import image_statistics

    recipe = Recipe(input_size=96)
    mask = field_of_view(96)

    def records(files: list[object], seed: int, radius: float) -> pa.Table:
        rows = make_records(len(files), seed)
        views = [prepare(Image.open(file).convert("RGB").filter(ImageFilter.GaussianBlur(radius)), recipe) for file in files]
        for name, values in pd.DataFrame([image_statistics(view, mask) for view in views]).items():
            rows = replace_column(rows, str(name), values.to_numpy())
        return rows

    files = real_photos["file"].sample(frac=1, random_state=0).tolist()[:140]
    reference = Reference.build(records(files[:80], 40, 0), CLASSES, "v", "m")
    assert verdict(records(files[80:], 41, 0), reference).status == "ok"
    blurred = verdict(records(files[80:], 41, 6), reference)
    assert (blurred.status, blurred.kind) == ("drift", "acquisition")
    assert "sharpness" in {check.stream for check in blurred.reasons}
