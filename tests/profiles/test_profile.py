import json
import subprocess
import sys
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from eye_disease.profiles.layout import EMBEDDING, Layout
from eye_disease.profiles.profile import MAX_SITES, NO_SITE, OTHER_SITES, Profile
from eye_disease.profiles.sample import SAMPLE_ROWS
from eye_disease.profiles.tally import FIXED_POINT, UNKNOWN_CLASS, Tally
from tests.support.drift_records import CLASSES, START, make_errors, make_records, replace_column
from tests.support.photos import PROJECT


@pytest.fixture(scope="module")
def layout() -> Layout:
    return Layout.fit(make_records(400, seed=1), CLASSES)


def stored(profile: Profile) -> str:
    return json.dumps(profile.to_json(), allow_nan=False, sort_keys=True)


@pytest.fixture(scope="module")
def mixed() -> pa.Table:
    """Answers of many sites, errors, canaries and losses, in no order."""
    names = [None, "b", *(f"site {i}" for i in range(MAX_SITES + 20))]
    table = pa.concat_tables([make_records(600, seed=2, sites=names), make_errors(40), make_errors(9, "internal_error", "b")])
    rng = np.random.default_rng(3)
    table = replace_column(table, "canary", rng.random(len(table)) < 0.05)
    table = replace_column(table, "lost_records", rng.integers(0, 3, len(table)))
    return table.take(pa.array(rng.permutation(len(table))))


@pytest.mark.parametrize("seed", range(5))
def test_merging_any_split_in_any_order_is_exactly_profiling_the_whole(layout: Layout, mixed: pa.Table, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cuts = [0, *sorted(rng.integers(0, len(mixed) + 1, rng.integers(1, 6)).tolist()), len(mixed)]
    parts = [Profile.from_table(mixed.slice(start, end - start), layout) for start, end in pairwise(cuts)]
    rng.shuffle(parts)
    while len(parts) > 1:  # a random tree of merges, not only left to right
        first, second = (parts.pop(int(rng.integers(len(parts)))) for _ in range(2))
        parts.append(first.merge(second))
    assert stored(parts[0]) == stored(Profile.from_table(mixed, layout))


def test_an_empty_profile_changes_nothing(layout: Layout, mixed: pa.Table) -> None:
    profile = Profile.from_table(mixed, layout)
    assert stored(profile.merge(Profile.empty(layout))) == stored(profile)
    assert stored(Profile.from_table(mixed.slice(0, 0), layout)) == stored(Profile.empty(layout))


def test_profiles_of_different_layouts_do_not_merge(layout: Layout) -> None:
    with pytest.raises(ValueError, match="merge only profiles of one model and reference"):
        Profile.empty(layout).merge(Profile.empty(Layout.generic(CLASSES)))


def test_json_keeps_everything(layout: Layout, mixed: pa.Table) -> None:
    profile = Profile.from_table(mixed, layout)
    read = Profile.from_json(json.loads(stored(profile)))
    assert stored(read) == stored(profile)
    assert stored(read.merge(profile)) == stored(profile.merge(profile))
    assert read.layout == layout
    assert vars(Tally.from_json(Tally.empty(layout).to_json(), layout)).keys() == vars(Tally.empty(layout)).keys()


def test_counts_and_means_are_those_of_the_records(layout: Layout) -> None:
    records = make_records(777, seed=4)
    frame = records.to_pandas()
    profile = Profile.from_table(records, layout)
    whole = profile.whole
    assert whole.answered == 777
    assert dict(zip(CLASSES, whole.classes.tolist(), strict=True)) == frame["predicted_class"].value_counts().to_dict()
    assert whole.decisions == frame["decision"].value_counts().to_dict()
    assert whole.flag("low_confidence") == (frame["low_confidence"].sum(), 777)
    assert whole.mean_confidence == pytest.approx(frame["confidence"].mean(), abs=1 / FIXED_POINT)
    assert whole.mean_latency_ms == pytest.approx(frame["inference_time_ms"].mean(), abs=1 / FIXED_POINT)
    assert whole.latency_quantile(0.5) == pytest.approx(frame["inference_time_ms"].median(), rel=0.12)
    assert whole.latency_quantile(0.99) == pytest.approx(frame["inference_time_ms"].quantile(0.99), rel=0.12)
    for name, mean in whole.means(layout).items():
        assert mean == pytest.approx(frame[name].mean(), abs=1 / FIXED_POINT)
    for name, counts in profile.counts(whole).items():
        assert counts.sum() == 777, name
    assert (whole.first, whole.last) == (START, START + timedelta(seconds=776))


def test_the_reference_has_equal_mass_in_every_bin(layout: Layout) -> None:
    profile = Profile.from_table(make_records(400, seed=1), layout)
    counts = profile.counts(profile.whole)["brightness"]
    assert counts[0] == counts[-1] == 0  # beyond what the reference has shown
    assert counts[1:-1].min() >= 12
    assert counts[1:-1].max() <= 14


def test_values_beyond_the_reference_are_counted_in_the_end_bins(layout: Layout) -> None:
    records = replace_column(make_records(3, seed=5), "sharpness", [-1e9, 1e9, 1e300])
    profile = Profile.from_table(records, layout)
    counts = profile.counts(profile.whole)["sharpness"]
    assert (counts[0], counts[-1]) == (1, 2)


def test_a_constant_column_tells_smaller_and_larger_values(layout: Layout) -> None:
    constant = Layout.fit(replace_column(make_records(60, seed=6), "contrast", np.full(60, 7.5)), CLASSES)
    records = replace_column(make_records(3, seed=5), "contrast", [7.4, 7.5, 7.6])
    profile = Profile.from_table(records, constant)
    assert profile.counts(profile.whole)["contrast"].tolist() == [1, 1, 1]


def test_errors_count_as_errors_only(layout: Layout) -> None:
    profile = Profile.from_table(make_errors(5), layout)
    assert profile.whole.errors == {"image_corrupt": 5}
    assert (profile.whole.failed, profile.whole.answered, len(profile.sample)) == (5, 0, 0)
    assert not profile.whole.histograms.any()
    assert not profile.whole.latency.any()
    assert profile.whole.mean_confidence is profile.whole.mean_latency_ms is profile.whole.latency_quantile(0.5) is None


def test_an_answer_of_a_class_the_model_does_not_have_is_an_error(layout: Layout) -> None:
    records = replace_column(make_records(2, seed=7), "predicted_class", ["cat", "normal"])
    profile = Profile.from_table(records, layout)
    assert profile.whole.errors == {UNKNOWN_CLASS: 1}
    assert profile.whole.answered == 1


def test_canaries_never_enter_but_losses_they_report_do(layout: Layout) -> None:
    records = replace_column(make_records(4, seed=8), "canary", [True, True, False, None])
    profile = Profile.from_table(replace_column(records, "lost_records", [3, 0, 2, None]), layout)
    assert profile.whole.answered == 2
    assert profile.lost == 5
    assert len(profile.sample) == 2


@pytest.mark.parametrize("nothing", [None, float("nan"), float("inf"), float("-inf")])
def test_values_that_are_none_or_not_finite_are_left_out(layout: Layout, nothing: float | None) -> None:
    records = make_records(10, seed=9)
    for name in ("ood_score", "embedding_3", "inference_time_ms", "confidence"):
        values = records[name].to_pylist()
        values[0] = nothing
        records = replace_column(records, name, values)
    profile = Profile.from_table(records, layout)
    assert profile.counts(profile.whole)["ood_score"].sum() == 9
    assert len(profile.sample) == 9
    assert profile.whole.mean_latency_ms == pytest.approx(np.mean(records["inference_time_ms"].to_pylist()[1:]), abs=1e-4)
    assert json.dumps(profile.to_json(), allow_nan=False)


def test_columns_of_other_types_or_none_are_read(layout: Layout) -> None:
    records = make_records(50, seed=10)
    expected = Profile.from_table(records, layout)
    times = records["timestamp"].cast(pa.timestamp("us", "UTC"))
    site = records["site"].cast(pa.string()).dictionary_encode()
    changed = records.set_column(records.schema.get_field_index("timestamp"), "timestamp", times)
    changed = changed.set_column(changed.schema.get_field_index("site"), "site", site)
    changed = changed.set_column(0, "prediction_id", changed["prediction_id"].cast(pa.large_string()))
    assert stored(Profile.from_table(changed, layout)) == stored(expected)
    without = changed.drop_columns(["gradable", "ood_score", *EMBEDDING])
    assert Profile.from_table(without, layout).whole.flag("gradable") == (0, 0)
    assert len(Profile.from_table(without, layout).sample) == 0


def test_integers_are_numbers_and_text_is_refused(layout: Layout) -> None:
    records = replace_column(make_records(3, seed=11), "brightness", [100, 110, 120])
    assert Profile.from_table(records, layout).whole.means(layout)["brightness"] == 110
    with pytest.raises(ValueError, match="Column 'brightness' holds string, expected double"):
        Profile.from_table(replace_column(records, "brightness", ["a", "b", "c"]), layout)


def test_a_batch_and_a_table_give_the_same(layout: Layout, mixed: pa.Table) -> None:
    batch = mixed.combine_chunks().to_batches()[0]
    assert stored(Profile.from_table(batch, layout)) == stored(Profile.from_table(mixed, layout))


def test_each_site_has_a_tally_of_its_own(layout: Layout) -> None:
    records = make_records(90, seed=12, sites=("a", None, "b"))
    profile = Profile.from_table(records, layout)
    assert {name: tally.answered for name, tally in profile.sites.items()} == {NO_SITE: 30, "a": 30, "b": 30}
    only = Profile.from_table(records.take(pa.array(np.arange(0, 90, 3))), layout)
    assert profile.sites["a"].to_json() == only.sites["a"].to_json()


def test_the_number_of_sites_is_bounded(layout: Layout) -> None:
    names = [f"site {i}" for i in range(3 * MAX_SITES)]
    profile = Profile.from_table(make_records(3 * MAX_SITES, seed=13, sites=names), layout)
    assert len(profile.sites) == MAX_SITES + 1
    assert profile.sites[OTHER_SITES].answered == 2 * MAX_SITES
    assert profile.whole.answered == 3 * MAX_SITES


def test_the_sample_is_bounded_and_uniform(layout: Layout) -> None:
    records = make_records(20_000, seed=14)
    records = replace_column(records, "embedding_1", np.arange(20_000.0))
    sample = Profile.from_table(records, layout).sample
    assert len(sample) == SAMPLE_ROWS
    drawn = sample.rows[:, 0] / 20_000
    assert np.abs(np.sort(drawn) - np.linspace(0, 1, SAMPLE_ROWS)).max() < 1.95 / np.sqrt(SAMPLE_ROWS)  # KS at 0.1 %


def test_equal_prediction_ids_give_the_same_sample_in_any_order(layout: Layout) -> None:
    records = replace_column(make_records(2 * SAMPLE_ROWS, seed=15), "prediction_id", ["same"] * 2 * SAMPLE_ROWS)
    backwards = records.take(pa.array(np.arange(len(records))[::-1]))
    assert stored(Profile.from_table(records, layout)) == stored(Profile.from_table(backwards, layout))


def test_sums_do_not_overflow(layout: Layout) -> None:
    records = replace_column(make_records(1_000, seed=16), "inference_time_ms", np.full(1_000, 6e7))
    profile = Profile.from_table(records, layout)
    for _ in range(20):
        profile = profile.merge(profile)
    assert profile.whole.answered == 1_000 * 2**20
    assert profile.whole.mean_latency_ms == 6e7


def test_the_size_does_not_grow_with_the_rows(layout: Layout) -> None:
    small, large = (Profile.from_table(make_records(n, seed=17, sites=("a", "b")), layout) for n in (2_000, 20_000))
    assert len(stored(large)) < 1.3 * len(stored(small)) < 200_000


def test_a_model_with_other_classes_and_nothing_but_probabilities() -> None:
    classes = ("sick", "well")
    records = make_records(80, seed=18, classes=classes).drop_columns(
        ["gradable", "out_of_distribution", "ood_score", *EMBEDDING]
    )
    layout = Layout.fit(records, classes)
    assert layout.streams[:3] == ("confidence", "prob_sick", "prob_well")
    assert "ood_score" not in layout.streams
    assert Profile.from_table(records, layout).whole.classes.sum() == 80


def test_the_generic_layout_needs_no_records() -> None:
    layout = Layout.generic(CLASSES)
    profile = Profile.from_table(make_records(100, seed=19), layout)
    counts = profile.counts(profile.whole)
    assert all(len(edges) == 33 for edges in layout.edges.values())
    assert {name for name, row in counts.items() if row.sum() != 100} == set()
    assert "embedding_1" not in counts


def test_neither_tensorflow_nor_mlflow_is_imported() -> None:
    modules = "eye_disease.profiles.reference, eye_disease.profiles.estimate"
    code = f"import sys, {modules}; print({{'mlflow', 'tensorflow'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
