"""The heatmap against real photos: what it points at is what the answer comes from."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.heatmap import LESIONS, deletions, pasted, patches
from benchmarks.network import Network
from model_code.decode import decode
from model_code.preprocessing import prepare
from tests.support.photos import PACKAGE

PHOTOS_A_CLASS = 40
DELETED_FROM = 10


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(PACKAGE)


@pytest.fixture(scope="module")
def views(network: Network, real_photos: pd.DataFrame) -> dict[str, list[np.ndarray]]:
    """Label -> views of validation photos."""
    recipe = network.facts.recipe
    return {
        label: [prepare(decode(path.read_bytes(), recipe.working_side, 10**8).image, recipe) for path in rows["file"]]
        for label, rows in real_photos.groupby("label").sample(PHOTOS_A_CLASS, random_state=0).groupby("label")
    }


def test_deleting_what_it_points_at_costs_the_answer_more_than_deleting_elsewhere(
    network: Network, views: dict[str, list[np.ndarray]]
) -> None:
    labels = [label for label, its in views.items() for _ in its[:DELETED_FROM]]
    fall = deletions(network, [view for its in views.values() for view in its[:DELETED_FROM]], labels)
    assert len(fall) > 0.6 * len(labels)
    assert fall["highest"].mean() > 2 * fall["random"].mean() > 0
    assert fall["lowest"].mean() < fall["random"].mean()


def test_the_map_rises_where_a_diseased_patch_was_pasted(network: Network, views: dict[str, list[np.ndarray]]) -> None:
    """About half of the times for the bundled model, by chance a quarter."""
    _, near, elsewhere = pasted(network, views["normal"], patches(network, views[LESIONS]))
    assert near.mean() > 1.4 * elsewhere.mean() > 0
