import numpy as np
import pytest

from model_code.embedding import LOGGED_COMPONENTS, logged_components, ood_score, residual_norm
from model_code.package import Statistics
from tests.photos import PACKAGE

PLANE = Statistics(
    embedding_mean=np.float32([1, 1, 1]),
    components=np.float32([[1, 0], [0, 1], [0, 0]]),
    ood_limit=np.asarray(2, np.float32),
)
"""The first two axes of three, through (1, 1, 1)."""


@pytest.mark.parametrize(
    ("embedding", "score"),
    [((1, 1, 1), 0.0), ((9, -7, 1), 0.0), ((1, 1, 3), 1.0), ((5, 5, 5), 2.0), ((0, 0, -5), 3.0)],
)
def test_the_score_is_the_distance_from_the_subspace_over_its_limit(embedding: tuple[float, ...], score: float) -> None:
    assert ood_score(np.float32(embedding), PLANE) == pytest.approx(score)


def test_many_embeddings_have_the_norms_of_each() -> None:
    embeddings = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    each = [residual_norm(one[None], PLANE)[0] for one in embeddings]
    assert residual_norm(embeddings, PLANE) == pytest.approx(each)


def test_the_logged_components_are_the_coordinates_in_the_subspace() -> None:
    assert logged_components(np.float32([4, -1, 7]), PLANE) == pytest.approx([3, -2])


def test_no_more_components_are_logged_than_the_record_has() -> None:
    wide = Statistics(embedding_mean=np.zeros(40, np.float32), components=np.eye(40, dtype=np.float32))
    logged = logged_components(np.arange(40, dtype=np.float32), wide)
    assert logged == list(range(LOGGED_COMPONENTS))
    assert logged is not None
    assert all(type(value) is float for value in logged)


@pytest.mark.parametrize("statistics", [Statistics(), Statistics(class_weights=np.zeros((3, 2), np.float32))])
def test_a_model_without_fitted_statistics_has_no_score_and_no_components(statistics: Statistics) -> None:
    assert ood_score(np.zeros(3, np.float32), statistics) is None
    assert logged_components(np.zeros(3, np.float32), statistics) is None


def test_the_bundled_components_are_orthonormal() -> None:
    components = Statistics.load(PACKAGE).components
    assert components is not None
    assert components.T @ components == pytest.approx(np.eye(components.shape[1]), abs=1e-4)
