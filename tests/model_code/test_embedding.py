import numpy as np
import pytest

from model_code.embedding import LOGGED_COMPONENTS, logged_components
from model_code.package import Statistics
from tests.support.photos import PACKAGE

PLANE = Statistics(
    embedding_mean=np.float32([1, 1, 1]),
    components=np.float32([[1, 0], [0, 1], [0, 0]]),
)
"""The first two axes of three, through (1, 1, 1)."""


def test_the_logged_components_are_the_coordinates_in_the_subspace() -> None:
    assert logged_components(np.float32([4, -1, 7]), PLANE) == pytest.approx([3, -2])


def test_no_more_components_are_logged_than_the_record_has() -> None:
    wide = Statistics(embedding_mean=np.zeros(40, np.float32), components=np.eye(40, dtype=np.float32))
    logged = logged_components(np.arange(40, dtype=np.float32), wide)
    assert logged == list(range(LOGGED_COMPONENTS))
    assert logged is not None
    assert all(type(value) is float for value in logged)


@pytest.mark.parametrize("statistics", [Statistics(), Statistics(class_weights=np.zeros((3, 2), np.float32))])
def test_a_model_without_fitted_statistics_has_no_components(statistics: Statistics) -> None:
    assert logged_components(np.zeros(3, np.float32), statistics) is None


def test_the_bundled_components_are_orthonormal() -> None:
    components = Statistics.load(PACKAGE).components
    assert components is not None
    assert components.T @ components == pytest.approx(np.eye(components.shape[1]), abs=1e-4)
