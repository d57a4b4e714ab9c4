"""Connected components and holes against a plain flood fill."""

import re

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fgseg.errors import OptionError, ShapeError
from fgseg.regions.components import (
    boxed_components,
    fill_holes,
    labelled_components,
    remove_small,
    remove_small_labels,
)

SIDES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6)
masks = arrays(bool, SIDES)
label_maps = arrays(np.int32, SIDES, elements=st.integers(-1, 2))
property_test = settings(max_examples=60, deadline=None)


def mask_of(*rows):
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def flooded(values, *, diagonal):
    """Components of equal values by a plain flood fill; 0 where the value is -1."""
    components = np.zeros(values.shape, int)
    steps = [(-1, 0), (1, 0), (0, -1), (0, 1)] + diagonal * [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    number = 0
    for start in np.argwhere(values != -1).tolist():
        if components[tuple(start)]:
            continue
        number += 1
        waiting = [tuple(start)]
        components[waiting[0]] = number
        while waiting:
            y, x = waiting.pop()
            for near in ((y + dy, x + dx) for dy, dx in steps):
                inside = 0 <= near[0] < values.shape[0] and 0 <= near[1] < values.shape[1]
                if inside and not components[near] and values[near] == values[y, x]:
                    components[near] = number
                    waiting.append(near)
    return components


def without_small(values, min_area):
    components = flooded(values, diagonal=True)
    return (components > 0) & (np.bincount(components.ravel())[components] >= min_area)


@property_test
@given(masks)
def test_components_are_those_of_a_flood_fill_over_eight_neighbours_and_boxes_fit_tightly(mask):
    components, boxes = boxed_components(mask)
    expected = flooded(np.where(mask, 0, -1), diagonal=True)
    assert components.dtype == np.int32
    # the same partition whatever the numbers: each pair of numbers is matched once
    pairs = np.unique(np.stack([components.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == len(np.unique(components)) == len(np.unique(expected))
    np.testing.assert_array_equal(components > 0, mask)
    for number, (left, top, right, bottom) in enumerate(boxes.tolist(), start=1):
        y, x = np.nonzero(components == number)
        assert (left, top, right, bottom) == (x.min(), y.min(), x.max() + 1, y.max() + 1)
    assert len(boxes) == expected.max()


@property_test
@given(masks, st.sampled_from([4, 8]))
def test_components_of_a_mask_are_numbered_in_reading_order(mask, connectivity):
    components, count = labelled_components(mask, connectivity=connectivity)
    expected = flooded(np.where(mask, 0, -1), diagonal=connectivity == 8)
    np.testing.assert_array_equal(components, expected)
    assert count == expected.max()


@property_test
@given(label_maps, st.sampled_from([1, 10]))
def test_label_maps_of_few_and_of_many_classes_have_the_components_of_a_flood_fill(labels, factor):
    labels = np.where(labels == -1, -1, labels * factor).astype(np.int32)  # 10: more classes than one by one
    components, count = labelled_components(labels, connectivity=8)
    expected = flooded(labels, diagonal=True)
    pairs = np.unique(np.stack([components.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == len(np.unique(components)) == len(np.unique(expected))
    np.testing.assert_array_equal(components > 0, labels != -1)
    assert count == expected.max() == components.max()


@property_test
@given(masks)
def test_no_two_components_have_the_same_box(mask):
    boxes = boxed_components(mask)[1].tolist()
    assert len({tuple(box) for box in boxes}) == len(boxes)


@property_test
@given(masks, st.integers(0, 8))
def test_removing_small_components_is_the_plain_count_of_each(mask, min_area):
    before = mask.copy()
    np.testing.assert_array_equal(remove_small(mask, min_area=min_area), without_small(np.where(mask, 0, -1), min_area))
    np.testing.assert_array_equal(mask, before)


@property_test
@given(label_maps, st.integers(0, 8))
def test_removing_small_labels_is_the_plain_count_of_each_class(labels, min_area):
    expected = np.where(without_small(labels, min_area), labels, -1)
    found = remove_small_labels(labels, min_area=min_area)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int32


@property_test
@given(masks, st.integers(0, 8))
def test_filling_holes_fills_what_a_flood_from_the_border_does_not_reach(mask, max_area):
    outside = flooded(np.where(mask, -1, 0), diagonal=False)
    border = np.concatenate([outside[0], outside[-1], outside[:, 0], outside[:, -1]])
    small = np.bincount(outside.ravel())[outside] <= max_area
    expected = mask | (~mask & ~np.isin(outside, border) & small)
    np.testing.assert_array_equal(fill_holes(mask, max_area=max_area), expected)


def test_a_gap_that_is_open_only_at_a_diagonal_is_a_hole_and_one_at_the_border_is_not():
    closed = mask_of(".##", "#.#", "###")
    assert fill_holes(closed, max_area=9).sum() == 8
    at_border = mask_of("#.#", "#.#", "###")
    np.testing.assert_array_equal(fill_holes(at_border, max_area=9), at_border)


@pytest.mark.parametrize("turns", range(4))
def test_an_enclosure_that_is_open_at_any_side_of_the_image_is_no_hole(turns):
    bay = np.rot90(mask_of("##.##", "##.##", "#####"), turns)
    np.testing.assert_array_equal(fill_holes(bay, max_area=9), bay)


def test_masks_without_pixels_or_without_extent_pass_through():
    for shape in ((3, 4), (0, 4), (4, 0)):
        empty = np.zeros(shape, bool)
        assert len(boxed_components(empty)[1]) == 0
        assert remove_small(empty, min_area=3).shape == fill_holes(empty, max_area=3).shape == shape
    assert fill_holes(np.ones((3, 3), bool), max_area=9).all()


def test_masks_may_be_read_only_and_strided():
    mask = np.repeat(mask_of("#.#", "###"), 2, axis=1)[:, ::2]
    mask.setflags(write=False)
    assert len(boxed_components(mask)[1]) == 1


def test_negative_areas_and_other_arrays_than_masks_are_refused():
    mask = mask_of("#")
    with pytest.raises(OptionError, match="min_area"):
        remove_small(mask, min_area=-1)
    with pytest.raises(OptionError, match="max_area"):
        fill_holes(mask, max_area=-1)
    with pytest.raises(OptionError, match="min_area"):
        remove_small_labels(np.int32([[0]]), min_area=-1)
    with pytest.raises(ShapeError, match="labels"):
        remove_small_labels(np.int64([[0]]), min_area=1)
    grey = np.zeros((2, 2), np.uint8)
    for call in (
        boxed_components,
        lambda mask: remove_small(mask, min_area=1),
        lambda mask: fill_holes(mask, max_area=1),
    ):
        with pytest.raises(ShapeError, match=re.escape("mask: expected a mask, (H, W) bool")):
            call(grey)
