from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from model_code.embedding import ood_score, residual_norm
from model_code.errors import ImageError
from model_code.preprocessing import Recipe, prepare
from model_code.quality import ungradable_reasons
from tests.photos import encode, fundus
from training.fit import (
    BEYOND_LIMIT,
    FLAGGED_SHARE,
    LIMITED_STATISTICS,
    OOD_COMPONENTS,
    calibration_error,
    fit_quality_limits,
    fit_statistics,
    fit_temperature,
)
from training.photos import load_views, read_manifest


@pytest.mark.parametrize("temperature", [0.4, 0.83, 1.0, 2.5])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20_000, 4))
    cumulated = softmax(logits / temperature, axis=1).cumsum(axis=1)
    labels = (rng.random((20_000, 1)) > cumulated).sum(axis=1).clip(0, 3)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.04)


def test_an_overconfident_network_is_calibrated_by_its_temperature() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (5_000, 3))
    labels = (rng.random((5_000, 1)) > softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1).clip(0, 2)
    overconfident = logits * 4
    fitted = overconfident / fit_temperature(overconfident, labels)
    assert calibration_error(softmax(overconfident, axis=1), labels) > 0.15
    assert calibration_error(softmax(fitted, axis=1), labels) < 0.03


def test_the_calibration_error_of_a_worked_example() -> None:
    probabilities = np.array([[0.95, 0.05], [0.85, 0.15], [0.35, 0.65], [0.65, 0.35], [0.0, 1.0]])
    labels = np.array([0, 1, 1, 1, 1])
    # Ten bins. 0.9-1: 0.95 right and 1.0 right, gap 0.025, share 2/5. 0.8-0.9: 0.85 wrong, gap 0.85, share 1/5.
    # 0.6-0.7: 0.65 right and 0.65 wrong, gap 0.15, share 2/5.
    assert calibration_error(probabilities, labels, bins=10) == pytest.approx(0.025 * 0.4 + 0.85 * 0.2 + 0.15 * 0.4)


@pytest.mark.parametrize(("labels", "error"), [([0, 0], 0.0), ([1, 1], 1.0), ([0, 1], 0.5)])
def test_full_confidence_lies_in_the_last_bin(labels: list[int], error: float) -> None:
    assert calibration_error(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array(labels)) == pytest.approx(error)


def _embeddings(count: int, seed: int, off_plane: float = 0.1) -> np.ndarray:
    """Points near a 20-dimensional plane, the same for every seed, in 200 dimensions."""
    plane = np.linalg.qr(np.random.default_rng(99).normal(size=(200, 20)))[0]
    rng = np.random.default_rng(seed)
    near = rng.normal(size=(count, 20)) * np.linspace(20, 2, 20) @ plane.T
    return (near + rng.normal(size=(count, 200)) * off_plane + 5).astype(np.float32)


def test_the_fitted_subspace_flags_the_set_share_of_good_photos_and_all_strange_ones() -> None:
    validation = _embeddings(1000, seed=2)
    fitted = fit_statistics(_embeddings(600, seed=1), validation, class_weights=None)
    scores = np.array([ood_score(one, fitted) for one in validation])
    strange = [ood_score(one, fitted) for one in _embeddings(50, seed=3, off_plane=5)]
    assert (scores > 1).mean() == pytest.approx(FLAGGED_SHARE, abs=0.002)
    assert min(score for score in strange if score is not None) > 1
    assert (np.array([ood_score(one, fitted) for one in _embeddings(1000, seed=4)]) > 1).mean() < 0.04


def test_the_fitted_components_are_orthonormal_and_the_strongest_come_first() -> None:
    training, weights = _embeddings(600, seed=1), np.ones((200, 4))
    fitted = fit_statistics(training, _embeddings(100, seed=2), weights)
    assert fitted.components is not None
    assert fitted.embedding_mean == pytest.approx(training.mean(axis=0))
    assert fitted.components.shape == (200, OOD_COMPONENTS)
    assert fitted.components.T @ fitted.components == pytest.approx(np.eye(OOD_COMPONENTS), abs=1e-4)
    spread = ((training - training.mean(axis=0)) @ fitted.components).std(axis=0)
    assert (np.diff(spread) <= 1e-3).all()
    assert fitted.class_weights is weights


def test_the_limit_is_that_of_validation_not_of_training() -> None:
    training, validation = _embeddings(600, seed=1), _embeddings(300, seed=2, off_plane=0.5)
    fitted = fit_statistics(training, validation, None)
    assert fitted.ood_limit == pytest.approx(np.quantile(residual_norm(validation, fitted), 1 - FLAGGED_SHARE))


def test_quality_limits_flag_the_set_share_of_good_photos_on_each_side() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({name: rng.normal(100, 10, 5_000) for name in (*LIMITED_STATISTICS, "red")})
    limits = fit_quality_limits(table)
    assert set(limits) == set(LIMITED_STATISTICS)
    for name, (has_low, has_high) in LIMITED_STATISTICS.items():
        low, high = limits[name]
        assert (low is not None, high is not None) == (has_low, has_high)
        if low is not None:
            assert (table[name] < low).mean() == pytest.approx(BEYOND_LIMIT, abs=0.001)
        if high is not None:
            assert (table[name] > high).mean() == pytest.approx(BEYOND_LIMIT, abs=0.001)
    assert ungradable_reasons(dict.fromkeys(LIMITED_STATISTICS, 100.0), limits) == []


def _manifest(folder: Path, text: str) -> Path:
    (folder / "manifest.csv").write_text(text)
    return folder / "manifest.csv"


def test_a_manifest_is_read(tmp_path: Path) -> None:
    rows = read_manifest(_manifest(tmp_path, "path,label,source,group,split\na.jpg,x,s,g,train\n"), ("x", "y"))
    assert rows.to_dict("records") == [{"path": "a.jpg", "label": "x", "source": "s", "group": "g", "split": "train"}]


def test_a_manifest_without_a_column_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lacks the columns \['source', 'split'\]"):
        read_manifest(_manifest(tmp_path, "path,label\na.jpg,x\n"), ("x", "y"))


def test_a_manifest_with_an_unknown_label_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"labels \['z'\]. Expected only \['x', 'y'\]"):
        read_manifest(_manifest(tmp_path, "path,label,source,split\na.jpg,z,s,train\n"), ("x", "y"))


def test_views_come_in_the_order_of_the_manifest_as_serving_prepares_them(tmp_path: Path) -> None:
    recipe = Recipe(64)
    for i in range(6):
        (tmp_path / f"{i}.png").write_bytes(encode(fundus(100, seed=i), "PNG"))
    rows = pd.DataFrame({"path": [f"{i}.png" for i in range(6)], "label": list("yxyxxy"), "source": list("abcabc")})
    loaded = load_views(tmp_path, rows, ("x", "y"), recipe)
    assert loaded.labels.tolist() == [1, 0, 1, 0, 0, 1]
    assert loaded.sources.tolist() == list("abcabc")
    for i, view in enumerate(loaded.views):
        assert (view == prepare(fundus(100, seed=i), recipe)).all()


def test_a_photo_that_cannot_be_decoded_stops_training(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"no photo")
    rows = pd.DataFrame({"path": ["0.png"], "label": ["x"], "source": ["a"]})
    with pytest.raises(ImageError):
        load_views(tmp_path, rows, ("x", "y"), Recipe(64))
