import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from eye_disease.profiles.critical_values import CLASS_STREAM, SHARES, WINDOW_SIZES, critical_values, distance, interpolated
from eye_disease.profiles.estimate import estimate_performance
from eye_disease.profiles.layout import EMBEDDING, Layout
from eye_disease.profiles.profile import Profile
from eye_disease.profiles.reference import SMALLEST_REFERENCE, Reference
from tests.support.drift_records import CLASSES, make_errors, make_records, replace_column


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.build(make_records(500, seed=1), CLASSES, "validation", "eye-disease-classifier")


def test_it_says_where_it_comes_from(reference: Reference) -> None:
    assert (reference.name, reference.model_name, reference.model_version) == ("validation", "eye-disease-classifier", None)
    assert reference.created.endswith("+00:00")
    assert reference.profile.whole.answered == 500
    assert reference.layout.classes == CLASSES


def test_a_saved_reference_is_small_and_reads_back_the_same(reference: Reference, tmp_path: Path) -> None:
    path = tmp_path / "reference_profile.json"
    reference.save(path)
    assert path.stat().st_size < 300_000
    read = Reference.load(path)
    assert (read.name, read.created, read.critical) == (reference.name, reference.created, reference.critical)
    assert read.profile.to_json() == reference.profile.to_json()
    assert read.parts.to_json() == reference.parts.to_json()
    read.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "profile": {}}', "null"])
def test_what_is_no_reference_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "reference_profile.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"reference_profile\.json is not a reference.*Build it again"):
        Reference.load(path)


def test_another_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "reference_profile.json"
    path.write_text(json.dumps({"format": 99}))
    with pytest.raises(ValueError, match="has format 99, expected 1"):
        Reference.load(path)


def test_too_few_answers_are_refused() -> None:
    records = pa.concat_tables([make_records(SMALLEST_REFERENCE - 1, seed=2), make_errors(30)])
    with pytest.raises(
        ValueError, match=f"'tiny' has {SMALLEST_REFERENCE - 1} answered records, expected {SMALLEST_REFERENCE}"
    ):
        Reference.build(records, CLASSES, "tiny", "m")


def test_errors_and_canaries_do_not_shape_it() -> None:
    records = make_records(80, seed=3)
    strange = replace_column(make_records(40, seed=4, sharpness=9), "canary", np.ones(40, bool))
    built = Reference.build(pa.concat_tables([strange, make_errors(10), records]), CLASSES, "v", "m", "7")
    assert built.layout == Reference.build(records, CLASSES, "v", "m").layout
    assert built.profile.whole.answered == 80
    assert built.model_version == "7"


def test_critical_values_fall_with_the_window_and_stay_above_what_the_reference_itself_is_uncertain_of(
    reference: Reference,
) -> None:
    for stream in ("confidence", "brightness", "embedding_1", CLASS_STREAM):
        values = reference.critical[stream]
        assert len(values) == len(WINDOW_SIZES)
        assert values[0] > values[2] > values[4] > values[6] > 0
    # KS limits follow sqrt(1/n + 1/N): from n = 100 to 100,000 by sqrt((1/100 + 1/500) / (1/500)) = 2.4.
    ratio = reference.critical_value("brightness", 100) / reference.critical_value("brightness", 100_000)
    assert ratio == pytest.approx(np.sqrt(6), rel=0.15)


def test_critical_values_are_interpolated_between_sizes() -> None:
    values = tuple(float(i) for i in range(len(WINDOW_SIZES)))
    assert interpolated(values, 50) == 0
    assert interpolated(values, 10) == 0
    assert interpolated(values, 100) == 1
    assert interpolated(values, 141) == pytest.approx(1.5, abs=0.01)
    assert interpolated(values, 10**7) == len(WINDOW_SIZES) - 1


@pytest.mark.parametrize("n", [50, 1_000])
def test_new_windows_exceed_any_critical_value_in_one_of_a_hundred(n: int) -> None:
    """Fresh references and windows of a known population, which neither has been drawn from."""
    rng = np.random.default_rng(n)
    shares = rng.dirichlet(np.ones(20) * 5, size=6)

    def draw(size: int) -> dict[str, np.ndarray]:
        codes = {f"stream {i}": rng.choice(20, size, p=row) for i, row in enumerate(shares)}
        return codes | {CLASS_STREAM: rng.choice(3, size, p=[0.6, 0.3, 0.1]), SHARES[0]: (rng.random(size) < 0.03).astype(int)}

    beyond = trials = 0
    for _ in range(2):
        sample = draw(300)
        limits = critical_values(sample, 300)
        for _ in range(100):
            fresh, window = draw(300), draw(n)
            counts = [{name: np.bincount(codes, minlength=20) for name, codes in sample.items()} for sample in (window, fresh)]
            beyond += any(distance(s, counts[0][s], counts[1][s]) > interpolated(limits[s], n) for s in limits)
            trials += 1
    assert beyond <= 8  # 2 expected of 200; more than 8 has a probability below 0.1 %


def test_a_model_without_embedding_or_image_statistics_has_a_reference() -> None:
    stored = ["sharpness", "ood_score", "gradable", "out_of_distribution", "unfamiliar_camera", *EMBEDDING]
    records = make_records(80, seed=5, classes=("sick", "well")).drop_columns(stored)
    built = Reference.build(records, ("sick", "well"), "v", "m")
    assert "sharpness" not in built.critical
    assert "gradable" not in built.critical
    assert set(built.critical) == {*built.layout.streams, CLASS_STREAM}


def test_constant_columns_and_one_class_have_a_reference() -> None:
    records = make_records(80, seed=6, mix=(1, 0, 0, 0))
    for name in ("sharpness", "ood_score", "confidence"):
        records = replace_column(records, name, np.full(80, 0.5))
    built = Reference.build(records, CLASSES, "v", "m")
    assert built.critical["sharpness"] == (0.0,) * len(WINDOW_SIZES)
    assert np.isfinite(list(built.critical.values())).all()


def test_the_parts_of_all_classes_make_the_whole(reference: Reference) -> None:
    counts = reference.profile.counts(reference.profile.whole)
    for stream, by_class in reference.parts.counts.items():
        assert by_class.sum(axis=0) * 500 == pytest.approx(counts[stream], abs=0.01)


def test_the_class_mix_is_estimated_without_labels(reference: Reference) -> None:
    mix = (0.1, 0.1, 0.7, 0.1)
    profile = Profile.from_table(make_records(3_000, seed=7, mix=mix), reference.layout)
    means = profile.whole.means(reference.layout)
    weights = reference.parts.weights(np.array([means[f"prob_{name}"] for name in CLASSES]))
    assert weights * reference.parts.moments.sum(axis=0) == pytest.approx(mix, abs=0.05)
    _, effective = reference.parts.reweighted(weights)
    assert 0.2 < effective < 0.8
    assert reference.parts.reweighted(np.ones(4))[1] == pytest.approx(1)


def test_estimated_accuracy_is_the_real_one_when_confidence_is_calibrated() -> None:
    records = make_records(4_000, seed=8)
    estimate = estimate_performance(Profile.from_table(records, Layout.fit(records, CLASSES)))
    rng = np.random.default_rng(9)
    confidence, predicted = records["confidence"].to_numpy(), np.array(records["predicted_class"].to_pylist())
    right = rng.random(4_000) < confidence
    assert estimate is not None
    assert estimate.low < right.mean() < estimate.high
    assert estimate.n == 4_000
    assert estimate.high - estimate.low == pytest.approx(
        2 * 1.96 * np.sqrt((confidence * (1 - confidence)).sum()) / 4_000, abs=1e-4
    )
    for name in CLASSES:
        assert estimate.precision[name] == pytest.approx(confidence[predicted == name].mean(), abs=1e-4)
        expected = confidence[predicted == name].sum() / records[f"prob_{name}"].to_numpy().sum()
        assert estimate.recall[name] == pytest.approx(expected, abs=1e-4)


def test_there_is_no_estimate_without_answers(reference: Reference) -> None:
    assert estimate_performance(Profile.from_table(make_errors(60), reference.layout)) is None
