"""The region table against plain counting over a flood fill."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from fgseg.errors import OptionError, ShapeError
from fgseg.regions.table import region_table
from fgseg.types import LazyMaps

SIDES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6)
property_test = settings(max_examples=60, deadline=None)


def flood(pixels, start, diagonal):
    """Every pixel of the set that is reached from one."""
    steps = [(-1, 0), (1, 0), (0, -1), (0, 1)] + diagonal * [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    found, waiting = {start}, [start]
    while waiting:
        y, x = waiting.pop()
        near = {(y + dy, x + dx) for dy, dx in steps} & pixels - found
        found |= near
        waiting.extend(near)
    return found


def split(pixels, *, diagonal):
    components, rest = [], set(pixels)
    while rest:
        components.append(flood(rest, min(rest), diagonal))
        rest -= components[-1]
    return components


def holes_of(component, shape):
    frame = {(y, x) for y in range(-1, shape[0] + 1) for x in range(-1, shape[1] + 1)}
    return len(split(frame - component, diagonal=False)) - 1  # all but the outside


@property_test
@given(arrays(bool, SIDES), st.integers(0, 5), st.integers(0, 99))
def test_the_region_table_is_a_plain_count_of_each_flooded_component(mask, min_area, seed):
    score = np.random.RandomState(seed).uniform(0, 1, mask.shape).astype(np.float32)
    components = split({tuple(yx) for yx in np.argwhere(mask).tolist()}, diagonal=True)
    table = region_table({"cat": mask}, {"cat": score}, min_area=min_area)
    rows = {region.box_xyxy: region for region in table}
    large = [component for component in components if len(component) >= min_area]
    assert len(rows) == len(table) == len(large)
    for component in large:
        y, x = np.array(sorted(component)).T
        region = rows[(x.min(), y.min(), x.max() + 1, y.max() + 1)]
        assert region.area == len(component)
        assert region.holes == holes_of(component, mask.shape)
        # The stated tolerance of centroids and means is 1e-6, relative; float64 sums come much nearer.
        np.testing.assert_allclose(region.centroid_yx, (y.mean(), x.mean()), atol=1e-12)
        assert region.mean_score == pytest.approx(score[y, x].astype(float).mean(), abs=1e-12)
        assert region.peak_score == score[y, x].max()
        assert (region.class_name, region.class_index) == ("cat", 0)
    order = [(-region.area, region.box_xyxy[1], region.box_xyxy[0]) for region in table]
    assert order == sorted(order)


def test_the_region_table_agrees_with_scipy_within_1e_6():
    """Centroids and means are float64 sums in another order than scipy's; boxes, areas and peaks are equal."""
    state = np.random.RandomState(14)
    mask = ndimage.gaussian_filter(state.normal(size=(240, 320)), 2) > 0.05
    score = state.uniform(size=mask.shape).astype(np.float32)
    components, count = ndimage.label(mask, np.ones((3, 3)))
    numbers = np.arange(1, count + 1)
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(components)]
    measures = (
        ndimage.sum_labels(mask, components, numbers),
        ndimage.center_of_mass(mask, components, numbers),
        ndimage.mean(score, components, numbers),
        ndimage.maximum(score, components, numbers),
    )
    rows = dict(zip(boxes, zip(*measures, strict=True), strict=True))
    table = region_table({"a": mask}, {"a": score})
    assert len(table) == count > 100
    for region in table:
        area, centroid, mean, peak = rows[region.box_xyxy]
        assert (region.area, region.peak_score) == (area, peak)
        np.testing.assert_allclose(region.centroid_yx, centroid, rtol=1e-6)
        assert region.mean_score == pytest.approx(mean, rel=1e-6)


def test_the_region_table_keeps_the_order_of_the_classes_and_plain_numbers():
    mask = np.array([[True, False, True], [True, False, False]])
    score = np.full((2, 3), 0.75, np.float32)
    table = region_table({"b": mask, "a": ~mask}, {"a": score, "b": score})
    assert [(r.class_name, r.class_index, r.area) for r in table] == [("b", 0, 2), ("b", 0, 1), ("a", 1, 3)]
    numbers = (*table[0].box_xyxy, *table[0].centroid_yx, table[0].area, table[0].mean_score, table[0].holes)
    assert all(type(number) in (int, float) for number in numbers)


def test_an_island_in_a_hole_is_a_component_of_its_own_and_leaves_one_hole():
    mask = np.ones((5, 5), bool)
    mask[1:4, 1:4] = False
    mask[2, 2] = True
    ring, island = region_table({"a": mask}, {"a": np.ones((5, 5), np.float32)})
    assert (ring.area, ring.holes, island.area, island.holes) == (16, 1, 1, 0)


def test_masks_are_computed_once_and_scores_only_where_there_is_a_mask():
    computed = []
    score = np.ones((2, 2), np.float32)
    masks = LazyMaps(["none", "some"], lambda i: computed.append(i) or np.full((2, 2), i == 1))
    scores = LazyMaps(["none", "some"], lambda i: computed.append(f"score {i}") or score.copy())
    assert len(region_table(masks, scores)) == 1
    assert computed == [0, 1, "score 1"]


def test_no_masks_and_empty_masks_give_an_empty_table():
    assert region_table({}, {}) == ()
    for shape in ((2, 3), (0, 3)):
        assert region_table({"a": np.zeros(shape, bool)}, {"a": np.zeros(shape, np.float32)}) == ()


def test_the_region_table_refuses_missing_misshaped_and_impossible_scores():
    mask, score = np.ones((2, 3), bool), np.ones((2, 3), np.float32)
    with pytest.raises(OptionError, match="scores: expected a map for every class, got none for 'b'"):
        region_table({"a": mask, "b": mask}, {"a": score})
    with pytest.raises(ShapeError, match=r"scores\['a'\]: expected an array of shape \(2, 3\)"):
        region_table({"a": mask}, {"a": score.T})
    for bad in (np.nan, 1.5, -0.1):
        with pytest.raises(ShapeError, match=r"scores\['a'\]: expected values in \[0, 1\]"):
            region_table({"a": mask}, {"a": np.where(np.eye(2, 3), bad, score).astype(np.float32)})
    with pytest.raises(ShapeError, match=r"masks\['a'\]: expected a mask"):
        region_table({"a": score}, {"a": score})
    with pytest.raises(OptionError, match="min_area"):
        region_table({"a": mask}, {"a": score}, min_area=-1)
