"""Connected components of label maps that arrive in strips, against the region table."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fgseg.large.streamed_regions import StreamedRegions
from fgseg.regions.table import region_table
from fgseg.types import UNLABELLED

SEEDS = st.integers(0, 2**32 - 1)


@given(
    seed=SEEDS, hw=st.tuples(st.integers(1, 12), st.integers(1, 12)), classes=st.integers(1, 3), density=st.floats(0, 1)
)
@settings(deadline=None, max_examples=100)
def test_components_found_strip_by_strip_are_those_of_the_region_table(seed, hw, classes, density):
    rng = np.random.RandomState(seed)
    labels = np.where(rng.rand(*hw) < density, rng.randint(-1, classes, hw), 0).astype(np.int32)
    present = (rng.randint(0, 257, hw) / 256).astype(np.float32)  # sums of these are exact
    names = [f"class{index}" for index in range(classes)]
    components, edges = StreamedRegions(hw[1], keep=1000), [0, *sorted(set(rng.randint(1, hw[0] + 1, 3))), hw[0]]
    for top, bottom in pairwise(dict.fromkeys(edges)):
        components.add(labels[top:bottom], present[top:bottom])
    expected = region_table({name: labels == index for index, name in enumerate(names)}, dict.fromkeys(names, present))
    found = components.table(names)
    assert [(component.class_name, component.box_xyxy, component.area, component.holes) for component in found] == [
        (component.class_name, component.box_xyxy, component.area, component.holes) for component in expected
    ]
    for component, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(component.centroid_yx, other.centroid_yx, rtol=1e-12)
        assert (component.mean_score, component.peak_score) == pytest.approx(
            (other.mean_score, other.peak_score), rel=1e-6
        )
    assert components.total == len(expected)


def test_of_too_many_components_the_largest_are_listed_and_all_are_counted():
    components = StreamedRegions(9, keep=2)
    for length in (1, 4, 2, 5, 3):
        row = np.full((1, 9), UNLABELLED, np.int32)
        row[0, :length] = 0
        components.add(np.concatenate([row, np.full_like(row, UNLABELLED)]), np.ones((2, 9), np.float32))
    assert [component.area for component in components.table(["a"])] == [5, 4]
    assert components.total == 5
