"""Outlines of masks along the edges of their pixels, filled again by the even-odd rule."""

import re

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.measure import label

from fgseg.errors import OptionError, ShapeError
from fgseg.regions.polygons import pixel_polygons, single_ring

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6))
property_test = settings(max_examples=60, deadline=None)


def mask_of(*rows):
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def filled(rings, image_hw):
    """Even-odd rule at pixel centres, edge by edge."""
    y, x = np.indices(image_hw) + 0.5
    odd = np.zeros(image_hw, bool)
    for ring in rings:
        for (ax, ay), (bx, by) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if ay != by:
                odd ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) / (by - ay) * (bx - ax))
    return odd


def walked(ax, ay, bx, by):
    """The unit steps of an edge along the grid."""
    count = abs(bx - ax) + abs(by - ay)
    dx, dy = (bx - ax) // count, (by - ay) // count
    return [(ax + i * dx, ay + i * dy, ax + (i + 1) * dx, ay + (i + 1) * dy) for i in range(count)]


def shoelace(ring):
    x, y = ring.T.astype(int)
    return (x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_masks_without_pixels_have_no_polygons_and_masks_may_be_read_only_and_strided():
    for shape in ((3, 4), (0, 4), (4, 0)):
        assert pixel_polygons(np.zeros(shape, bool)) == []
    mask = np.repeat(mask_of("#.#", "###"), 2, axis=1)[:, ::2]
    mask.setflags(write=False)
    assert len(pixel_polygons(mask)) == 1


def test_other_arrays_than_masks_and_other_connectivities_are_refused():
    with pytest.raises(ShapeError, match=re.escape("mask: expected a mask, (H, W) bool")):
        pixel_polygons(np.zeros((2, 2), np.uint8))
    with pytest.raises(OptionError, match="connectivity: expected 4 or 8, got 6"):
        pixel_polygons(mask_of("#"), connectivity=6)


def test_polygons_of_a_ring_are_its_outside_and_its_hole_in_opposite_directions():
    (polygon,) = pixel_polygons(mask_of("###", "#.#", "###"))
    assert polygon.exterior_xy.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    assert [hole.tolist() for hole in polygon.holes_xy] == [[[1, 1], [1, 2], [2, 2], [2, 1]]]


def test_pixels_that_touch_at_a_corner_are_two_polygons_at_four_and_one_at_eight():
    mask = mask_of("#.", ".#")
    assert [p.exterior_xy.tolist() for p in pixel_polygons(mask)] == [
        [[0, 0], [1, 0], [1, 1], [0, 1]],
        [[1, 1], [2, 1], [2, 2], [1, 2]],
    ]
    (joined,) = pixel_polygons(mask, connectivity=8)
    assert joined.exterior_xy.tolist() == [[0, 0], [1, 0], [1, 1], [2, 1], [2, 2], [1, 2], [1, 1], [0, 1]]


def test_an_arm_that_closes_at_a_corner_leaves_a_hole_that_touches_the_outline():
    (polygon,) = pixel_polygons(mask_of("##.", "#.#", "###"))
    assert [hole.tolist() for hole in polygon.holes_xy] == [[[1, 1], [1, 2], [2, 2], [2, 1]]]
    assert polygon.exterior_xy.tolist() == [[0, 0], [2, 0], [2, 1], [3, 1], [3, 3], [0, 3]]


@property_test
@given(masks, st.sampled_from([4, 8]))
def test_filling_the_polygons_gives_the_mask_back_exactly(mask, connectivity):
    polygons = pixel_polygons(mask, connectivity=connectivity)
    union = np.zeros(mask.shape, bool)
    for exterior, holes in polygons:
        one = filled([exterior, *holes], mask.shape)
        assert not (union & one).any()
        union |= one
        assert shoelace(exterior) + sum(map(shoelace, holes)) == one.sum()
        assert shoelace(exterior) > 0
        assert all(shoelace(hole) < 0 for hole in holes)
    np.testing.assert_array_equal(union, mask)
    assert len(polygons) == label(mask, connectivity=connectivity // 4, return_num=True)[1]


@property_test
@given(masks, st.sampled_from([4, 8]))
def test_polygon_rings_begin_at_their_first_corner_and_turn_at_every_corner(mask, connectivity):
    polygons = pixel_polygons(mask, connectivity=connectivity)
    starts = [tuple(exterior[0, ::-1]) for exterior, _ in polygons]
    assert starts == sorted(starts)
    for ring in (ring for exterior, holes in polygons for ring in (exterior, *holes)):
        assert ring.dtype == np.int32
        assert tuple(ring[0, ::-1]) == min(map(tuple, ring[:, ::-1]))
        horizontal = (np.roll(ring, -1, axis=0) - ring)[:, 1] == 0
        assert (horizontal != np.roll(horizontal, 1)).all()
        if connectivity == 4:
            assert len(np.unique(ring, axis=0)) == len(ring)


def test_a_single_ring_cuts_each_hole_to_its_next_neighbour_on_the_left():
    (polygon,) = pixel_polygons(mask_of("#####", "#.#.#", "#####"))
    left_hole, right_hole = [[1, 1], [1, 2], [2, 2]], [[3, 1], [3, 2], [4, 2], [4, 1], [3, 1]]
    outside = [[0, 0], [5, 0], [5, 3], [0, 3], [0, 1]]
    expected = [*outside, *left_hole, [2, 1], *right_hole, [2, 1], [1, 1], [0, 1]]
    assert single_ring(polygon).tolist() == expected


@property_test
@given(masks)
def test_a_single_ring_is_filled_as_its_polygon_and_every_cut_lies_inside(mask):
    for polygon in pixel_polygons(mask, connectivity=8):
        ring = single_ring(polygon)
        one = filled([polygon.exterior_xy, *polygon.holes_xy], mask.shape)
        np.testing.assert_array_equal(filled([ring], mask.shape), one)
        assert ring.dtype == np.int32
        edges = list(zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True))
        assert all(start != end for start, end in edges)
        # Along the outline each step is walked once with the polygon on one side; a cut is walked both ways.
        steps = [step for (ax, ay), (bx, by) in edges for step in walked(ax, ay, bx, by)]
        assert len(set(steps)) == len(steps)
        for ax, ay, bx, by in steps:
            if (bx, by, ax, ay) in set(steps):
                assert ay == by
                assert one[ay - 1 : ay + 1, min(ax, bx)].tolist() == [True, True]


def test_polygons_of_a_checkerboard_of_thousands_of_pixels_are_all_found():
    board = np.indices((60, 60)).sum(axis=0) % 2 == 0
    assert len(pixel_polygons(board)) == board.sum()
    (joined,) = pixel_polygons(board, connectivity=8)
    assert shoelace(joined.exterior_xy) + sum(map(shoelace, joined.holes_xy)) == board.sum()
