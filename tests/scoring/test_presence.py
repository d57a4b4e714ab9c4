"""Masks: presence, thresholds, parts, holes and outlines against hand-worked examples and plain searches."""

import re

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fgseg.errors import OptionError, ShapeError
from fgseg.regions.components import boxed_parts, connected_parts, fill_holes, remove_small, remove_small_labels
from fgseg.regions.polygons import pixel_polygons, single_ring
from fgseg.scoring.presence import automatic_threshold, exclusive_labels, presence, threshold_mask

SIDES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6)
masks = arrays(bool, SIDES)
label_maps = arrays(np.int32, SIDES, elements=st.integers(-1, 2))
property_test = settings(max_examples=60, deadline=None)


def mask_of(*rows):
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def flooded(values, *, diagonal):
    """Parts of equal values by a plain flood fill; 0 where the value is -1."""
    parts = np.zeros(values.shape, int)
    steps = [(-1, 0), (1, 0), (0, -1), (0, 1)] + diagonal * [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    number = 0
    for start in np.argwhere(values != -1).tolist():
        if parts[tuple(start)]:
            continue
        number += 1
        waiting = [tuple(start)]
        parts[waiting[0]] = number
        while waiting:
            y, x = waiting.pop()
            for near in ((y + dy, x + dx) for dy, dx in steps):
                inside = 0 <= near[0] < values.shape[0] and 0 <= near[1] < values.shape[1]
                if inside and not parts[near] and values[near] == values[y, x]:
                    parts[near] = number
                    waiting.append(near)
    return parts


def without_small(values, min_area):
    parts = flooded(values, diagonal=True)
    return (parts > 0) & (np.bincount(parts.ravel())[parts] >= min_area)


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


def test_presence_is_a_half_where_the_class_equals_its_rival_and_follows_the_logistic_function():
    score, rival = np.float32([[0.2, 0.25, 0.1]]), np.float32([[0.2, 0.2, 0.2]])
    expected = 1 / (1 + np.exp(-40.0 * (score.astype(float) - rival)))
    found = presence(score, rival, logit_scale=40)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=3e-7)  # float32: one subtraction times 40, one tanh
    assert found[0, 0] == 0.5


def test_presence_of_huge_logits_is_exactly_0_or_1_without_a_warning():
    score = np.float32([[1e30, -1e30, np.inf]])
    np.testing.assert_array_equal(presence(score, np.zeros_like(score), logit_scale=1e30), [[1, 0, 1]])


@property_test
@given(arrays(np.float32, SIDES, elements=st.floats(-1, 1, width=32)), st.floats(0.5, 200))
def test_presence_of_class_and_rival_add_to_one_and_stay_in_range(score, scale):
    rival = score[::-1, ::-1]
    there, back = presence(score, rival, logit_scale=scale), presence(rival, score, logit_scale=scale)
    np.testing.assert_allclose(there + back, 1, atol=2e-7)  # float32 rounding of each
    assert there.min() >= 0
    assert there.max() <= 1


def test_presence_refuses_other_shapes_nan_and_a_scale_that_is_not_above_zero():
    score = np.zeros((2, 3), np.float32)
    with pytest.raises(ShapeError, match=r"rival_map: expected an array of shape \(2, 3\)"):
        presence(score, score.T, logit_scale=1)
    with pytest.raises(ShapeError, match="score_map: expected an array"):
        presence(score[0], score[0], logit_scale=1)
    with pytest.raises(ShapeError, match="got NaN"):
        presence(score * np.nan, score, logit_scale=1)
    with pytest.raises(OptionError, match="logit_scale"):
        presence(score, score, logit_scale=0)


def test_exclusive_labels_drop_weak_winners_only_where_there_is_a_rival():
    labels = np.int32([[0, 1, 2]])
    best, rival = np.float32([[0.3, 0.2, 0.1]]), np.full((1, 3), 0.2, np.float32)
    kept = exclusive_labels(labels, best, rival, threshold=0.5, logit_scale=40)
    np.testing.assert_array_equal(kept, [[0, 1, -1]])
    assert kept.dtype == np.int32
    every = exclusive_labels(labels, best, None, threshold=0.9, logit_scale=40)
    np.testing.assert_array_equal(every, labels)
    assert not np.shares_memory(every, labels)
    np.testing.assert_array_equal(labels, [[0, 1, 2]])


def test_exclusive_labels_refuse_wrong_shapes_types_and_thresholds():
    labels, best = np.zeros((2, 3), np.int32), np.zeros((2, 3), np.float32)
    with pytest.raises(ShapeError, match="best: expected"):
        exclusive_labels(labels, best.T, None, threshold=0.5, logit_scale=1)
    with pytest.raises(ShapeError, match="labels: expected int32, got int64"):
        exclusive_labels(labels.astype(np.int64), best, None, threshold=0.5, logit_scale=1)
    with pytest.raises(ShapeError, match="labels: expected an array"):
        exclusive_labels(labels[0], best[0], None, threshold=0.5, logit_scale=1)
    with pytest.raises(OptionError, match="threshold"):
        exclusive_labels(labels, best, None, threshold=1.5, logit_scale=1)


def test_automatic_threshold_lies_between_two_heaps_on_either_side_of_a_half():
    values = np.random.RandomState(41).uniform(-0.05, 0.05, (40, 50)).astype(np.float32)
    values[:, :20] += 0.9
    values[:, 20:] += 0.4
    threshold = automatic_threshold(values)
    assert 0.5 <= threshold <= 0.85
    np.testing.assert_array_equal(values >= threshold, np.arange(50) < np.full((40, 1), 20))


def test_automatic_threshold_never_marks_an_absent_class_and_never_cuts_one_that_is_everywhere():
    absent = np.random.RandomState(42).uniform(0, 0.49, (20, 20)).astype(np.float32)
    assert automatic_threshold(absent) == 0.5
    assert not threshold_mask(absent, threshold="auto").any()
    everywhere = np.random.RandomState(43).uniform(0.6, 1, (20, 20)).astype(np.float32)
    assert automatic_threshold(everywhere) == 0.5
    assert threshold_mask(everywhere, threshold="auto").all()


@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 1.0])
def test_automatic_threshold_of_a_constant_or_empty_map_is_low(value):
    assert automatic_threshold(np.full((3, 4), value, np.float32), low=0.25) == 0.25
    assert automatic_threshold(np.zeros((0, 4), np.float32)) == 0.5


def test_automatic_threshold_is_otsus_by_a_plain_search_where_it_separates_absent_from_present():
    values = np.float32([[0.1] * 6 + [0.3] * 2 + [0.8] * 3 + [0.9]])
    variances = []
    for edge in np.arange(1, 256) / 256:
        low, high = values[values < edge], values[values >= edge]
        spread = low.size * high.size * (low.mean() - high.mean()) ** 2 if low.size and high.size else -1
        variances.append(float(spread))
    best = np.argmax(np.round(variances, 6))
    assert automatic_threshold(values, low=0.25) == (best + 1) / 256


@property_test
@given(arrays(np.float32, SIDES, elements=st.floats(0, 1, width=32)), st.floats(0, 1))
def test_automatic_threshold_stays_in_low_to_one_and_keeps_every_class_that_is_present_somewhere(values, low):
    threshold = automatic_threshold(values, low=low)
    assert low <= threshold <= 1
    # The highest bin always lies above Otsu's gap: whatever reaches `low` somewhere leaves a mask.
    if values.max() >= low:
        assert (values >= np.float32(threshold)).any()


def test_threshold_mask_holds_the_threshold_itself_and_refuses_what_is_not_a_presence():
    np.testing.assert_array_equal(threshold_mask(np.float32([[0.25, 0.5]]), threshold=0.5), [[False, True]])
    for bad in (-0.1, 1.1, np.nan):
        with pytest.raises(ShapeError, match=r"presence_map: expected values in \[0, 1\]"):
            threshold_mask(np.float32([[0.2, bad]]), threshold=0.5)
    with pytest.raises(ShapeError, match="presence_map"):
        automatic_threshold(np.zeros(3, np.float32))
    with pytest.raises(OptionError, match=r'threshold.*or "auto"'):
        threshold_mask(np.float32([[0.2]]), threshold="otsu")
    with pytest.raises(OptionError, match="low"):
        automatic_threshold(np.float32([[0.2]]), low=-1)


@property_test
@given(masks)
def test_parts_are_those_of_a_flood_fill_over_eight_neighbours_and_boxes_hold_them_tightly(mask):
    parts, boxes = boxed_parts(mask)
    expected = flooded(np.where(mask, 0, -1), diagonal=True)
    assert parts.dtype == np.int32
    # the same partition whatever the numbers: each pair of numbers is matched once
    pairs = np.unique(np.stack([parts.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == len(np.unique(parts)) == len(np.unique(expected))
    np.testing.assert_array_equal(parts > 0, mask)
    for part, (left, top, right, bottom) in enumerate(boxes.tolist(), start=1):
        y, x = np.nonzero(parts == part)
        assert (left, top, right, bottom) == (x.min(), y.min(), x.max() + 1, y.max() + 1)
    assert connected_parts(mask)[1] == len(boxes) == expected.max()


@property_test
@given(masks)
def test_no_two_parts_have_the_same_box(mask):
    boxes = boxed_parts(mask)[1].tolist()
    assert len({tuple(box) for box in boxes}) == len(boxes)


@property_test
@given(masks, st.integers(0, 8))
def test_removing_small_parts_is_the_plain_count_of_each(mask, min_area):
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


def test_a_hole_that_leaves_only_through_a_diagonal_is_a_hole_and_one_at_the_border_is_not():
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
        assert connected_parts(empty)[1] == 0
        assert remove_small(empty, min_area=3).shape == fill_holes(empty, max_area=3).shape == shape
        assert pixel_polygons(empty) == []
    assert fill_holes(np.ones((3, 3), bool), max_area=9).all()


def test_masks_may_be_read_only_and_strided():
    mask = np.repeat(mask_of("#.#", "###"), 2, axis=1)[:, ::2]
    mask.setflags(write=False)
    assert connected_parts(mask)[1] == 1
    assert len(pixel_polygons(mask)) == 1


def test_areas_below_zero_and_what_is_not_a_mask_are_refused():
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
        connected_parts,
        pixel_polygons,
        lambda mask: remove_small(mask, min_area=1),
        lambda mask: fill_holes(mask, max_area=1),
    ):
        with pytest.raises(ShapeError, match=re.escape("mask: expected a mask, (H, W) bool")):
            call(grey)
    with pytest.raises(OptionError, match="connectivity: expected 4 or 8, got 6"):
        pixel_polygons(mask, connectivity=6)


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
    assert len(polygons) == flooded(np.where(mask, 0, -1), diagonal=connectivity == 8).max(initial=0)


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


def test_a_single_ring_cuts_each_hole_to_what_lies_next_on_its_left():
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


def test_a_threshold_of_numpys_is_the_same_as_pythons():
    presence_map = np.float32([[0.7]])  # above 0.7 in float32, below it in float64
    assert threshold_mask(presence_map, threshold=0.7).all()
    assert threshold_mask(presence_map, threshold=np.float64(0.7)).all()
