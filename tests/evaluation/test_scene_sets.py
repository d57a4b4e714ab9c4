"""Procedural scenes as labelled data sets."""

import numpy as np
import pytest

from fgseg.datasets.scenes import SCENE_SETS, SWEPT_SEED, open_scenes
from fgseg.errors import OptionError


@pytest.mark.parametrize("name", SCENE_SETS)
def test_scenes_are_a_labelled_set_without_files(name):
    dataset = open_scenes(name, count=2, side=40)
    seen = np.unique(np.stack([item.read_labels() for item in dataset.items]))
    assert set(seen) <= {*range(len(dataset.classes)), 255}
    assert dataset.items[0].read_image().shape == (40, 40, 3)
    np.testing.assert_array_equal(
        dataset.items[0].read_labels(), open_scenes(name, count=1, side=40).items[0].read_labels()
    )


def test_runs_and_sweeps_use_different_scenes():
    measured, swept = (open_scenes("scenes-colors", count=3, first_seed=s).items for s in (10_000_000, SWEPT_SEED))
    assert not {item.name for item in measured} & {item.name for item in swept}


def test_an_unknown_set_of_scenes_is_refused():
    with pytest.raises(OptionError, match="name: expected one of scenes-colors"):
        open_scenes("scenes")
    with pytest.raises(OptionError, match="count: expected a whole number"):
        open_scenes("scenes-colors", count=1.5)
