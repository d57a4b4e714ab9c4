"""Small parts and small gaps of label maps, worked by hand and against plain loops."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from fgseg.errors import OptionError, ShapeError
from fgseg.regions.specks import join_gaps, join_parts, quarter_patch

SIDES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7)
label_maps = arrays(np.int32, SIDES, elements=st.integers(-1, 2))
property_test = settings(max_examples=80, deadline=None)
DIAGONAL = np.ones((3, 3))


def map_of(*rows):
    """ "." is unlabelled, a digit its class."""
    return np.array([[-1 if letter == "." else int(letter) for letter in row] for row in rows], np.int32)


def parts_of(labels, structure=DIAGONAL):
    """The class and the mask of every part."""
    for index in range(labels.max() + 1):
        numbers, count = ndimage.label(labels == index, structure)
        yield from ((index, numbers == number) for number in range(1, count + 1))


def slowly_joined(labels, min_area, no_data):
    """`join_parts` as its docstring says it, one part and one pixel at a time."""
    small = [part for _, part in parts_of(labels) if part.sum() < min_area]
    undecided = np.any([*small, no_data], axis=0)
    joined = labels.copy()
    for part in small:
        votes = Counter()
        for y, x in np.argwhere(part).tolist():
            for near in np.ndindex(3, 3):
                at = y + near[0] - 1, x + near[1] - 1
                if all(0 <= place < side for place, side in zip(at, labels.shape, strict=True)) and not undecided[at]:
                    votes[int(labels[at])] += 1
        joined[part] = min(votes, key=lambda label: (-votes[label], label), default=-1)
    return joined


def slowly_filled(labels, max_area, no_data):
    """`join_gaps` as its docstring says it, one gap at a time."""
    numbers, count = ndimage.label((labels == -1) & ~no_data)
    filled = labels.copy()
    for number in range(1, count + 1):
        gap = numbers == number
        at_border = gap[0].any() or gap[-1].any() or gap[:, 0].any() or gap[:, -1].any()
        beside = set(labels[ndimage.binary_dilation(gap) & ~gap].tolist()) - {-1}
        if gap.sum() <= max_area and not at_border and len(beside) == 1:
            filled[gap] = beside.pop()
    return filled


def test_a_quarter_of_a_patch_is_rounded_up():
    assert quarter_patch((64, 64), (4, 4)) == 64
    assert quarter_patch((65, 64), (4, 4)) == 65
    assert quarter_patch((2, 2), (4, 4)) == 1


def test_a_small_part_joins_the_class_around_it_or_none_as_most_pixels_around_it_say():
    assert join_parts(map_of("0000", "0100", "0000"), min_area=2).tolist() == map_of("0000", "0000", "0000").tolist()
    assert join_parts(map_of("....", ".1..", "...."), min_area=2).max() == -1
    assert join_parts(map_of("0002", "0122", "0022"), min_area=2)[1, 1] == 0
    assert join_parts(map_of("0..2", "01.2", "0..2"), min_area=2)[1, 1] == -1


def test_a_small_part_beside_small_parts_alone_belongs_to_none_and_the_size_itself_is_not_small():
    assert join_parts(map_of("01", "20"), min_area=3).max() == -1
    kept = map_of("11..", "....")
    np.testing.assert_array_equal(join_parts(kept, min_area=2), kept)


def test_a_small_gap_inside_one_class_joins_it_and_other_gaps_stay():
    inside = map_of("000", "0.0", "000")
    assert (join_gaps(inside, max_area=1) == 0).all()
    for stays in (map_of("001", "0.1", "001"), map_of("000", "00.", "000"), map_of("0000", "0..0", "0000")):
        np.testing.assert_array_equal(join_gaps(stays, max_area=1), stays)


def test_pixels_without_data_never_join_a_class_and_do_not_count():
    no_data = np.zeros((3, 4), bool)
    no_data[1, 1] = True
    hole = map_of("0000", "0..0", "0000")
    assert join_gaps(hole, max_area=1, no_data=no_data).tolist() == map_of("0000", "0.00", "0000").tolist()
    labels = map_of("..2", ".12", "..2")
    assert join_parts(labels, min_area=2)[1, 1] == -1
    assert join_parts(labels, min_area=2, no_data=labels == -1)[1, 1] == 2


@given(label_maps, st.integers(0, 8), st.data())
@property_test
def test_parts_and_gaps_are_joined_as_by_plain_loops(labels, size, data):
    no_data = data.draw(arrays(bool, labels.shape)) & (labels == -1)
    before = labels.copy()
    parts = join_parts(labels, min_area=size, no_data=no_data)
    np.testing.assert_array_equal(parts, slowly_joined(labels, size, no_data))
    np.testing.assert_array_equal(
        join_gaps(labels, max_area=size, no_data=no_data), slowly_filled(labels, size, no_data)
    )
    np.testing.assert_array_equal(labels, before)
    assert (parts[no_data] == -1).all()


@given(label_maps, st.integers(0, 8))
@property_test
def test_no_small_part_is_left_and_a_second_time_changes_nothing(labels, size):
    joined = join_gaps(join_parts(labels, min_area=size), max_area=max(0, size - 1))
    assert all(part.sum() >= size for _, part in parts_of(joined))
    again = join_gaps(join_parts(joined, min_area=size), max_area=max(0, size - 1))
    np.testing.assert_array_equal(again, joined)


@given(label_maps, st.sampled_from([0, 1]))
@property_test
def test_sizes_of_0_and_1_change_no_part_and_0_no_gap(labels, size):
    np.testing.assert_array_equal(join_parts(labels, min_area=size), labels)
    np.testing.assert_array_equal(join_gaps(labels, max_area=0), labels)


def test_wrong_arguments_are_refused_by_name():
    with pytest.raises(OptionError, match="min_area: expected a whole number from 0"):
        join_parts(np.int32([[0]]), min_area=-1)
    with pytest.raises(OptionError, match="max_area: expected a whole number from 0"):
        join_gaps(np.int32([[0]]), max_area=-1)
    for join in (lambda labels: join_parts(labels, min_area=1), lambda labels: join_gaps(labels, max_area=1)):
        with pytest.raises(ShapeError, match="labels"):
            join(np.int64([[0]]))
