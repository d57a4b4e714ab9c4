"""Values to levels: ranges, percentiles, and values of any size."""

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from fgseg.images.levels import Levels, fitting_levels, stated_levels, stretched_levels, value_range
from fgseg.images.reading import read_picture


@settings(deadline=None, max_examples=200)
@given(
    values=hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64, np.int16, np.int64, np.uint8, np.uint32]),
        st.tuples(st.integers(1, 4), st.integers(1, 5)),
    ),
    stretch=st.tuples(st.integers(0, 49), st.integers(51, 100)),
)
@example(values=np.array([[1.0, 5e-324]]), stretch=(0, 51))  # half of the smallest number is 0
def test_any_values_can_be_stretched_in_their_order(values, stretch):
    with np.errstate(all="raise"):
        picture = read_picture(values, stretch=stretch)
    has_data = ~np.isnan(values.astype(np.float64))
    assert picture.no_data is None if has_data.all() else (picture.no_data == ~has_data).all()
    gray, ordered = picture.rgb[:, :, 0][has_data], values[has_data]
    assert (np.diff(gray[np.argsort(ordered, kind="stable")].astype(int)) >= 0).all()


@pytest.mark.parametrize(("stretch", "expected"), [((0, 100), (0, 99)), ((2, 98), (1, 97)), ((50, 51), (49, 50))])
def test_percentiles_of_whole_numbers_are_exact_and_the_same_in_any_bands(stretch, expected):
    values = np.random.RandomState(0).permutation(100).reshape(10, 10)  # 0 to 99, once each
    for rows in (1, 3, 10):
        levels = stretched_levels(lambda rows=rows: iter(np.array_split(values, rows)), stretch)
        assert (levels.low, levels.high) == expected


@pytest.mark.parametrize("outlier", [0, 9])
def test_percentiles_that_are_one_value_give_the_whole_range(outlier):
    values = np.full((4, 5), 1)
    values[0, 0] = outlier
    picture = read_picture(values, stretch=(6, 51))
    assert (picture.rgb[:, :, 0] == np.where(values == values.max(), 255, 0)).all()


def test_percentiles_of_floats_are_exact_to_a_bin():
    values = np.random.RandomState(0).rand(1000, 10) * 40 - 20
    levels = stretched_levels(lambda: iter([values]), (2, 98))
    low, high = np.percentile(values, [2, 98])
    np.testing.assert_allclose((levels.low, levels.high), (low, high), atol=0.02)


@pytest.mark.parametrize(
    ("dtype", "ends", "high"),
    [
        (np.float32, (0, 1), 1), (np.float32, (-0.1, 1.5), 1), (np.float32, (0, 1.6), 255), (np.float32, (0, 382), 255),
        (np.float32, (0, 383), 65_535), (np.float64, (0, 98_302), 65_535), (np.float64, (0, 98_400), None),
        (np.float32, (-0.2, 1), None), (np.float32, (-3, -1), None), (np.int32, (0, 1), 255),
        (np.int32, (0, 256), 65_535), (np.int32, (-25, 255), 255), (np.int32, (-26, 255), None),
        (np.int64, (0, 65_536), None),
    ],
)  # fmt: skip
def test_the_smallest_range_that_holds_the_values_is_taken(dtype, ends, high):
    levels = fitting_levels(np.dtype(dtype), *ends)
    assert (levels and levels.high) == high


def test_only_whole_numbers_without_a_sign_state_their_range():
    assert stated_levels(np.dtype(np.uint16), 12) == Levels(0, 4095, shift=4)
    assert stated_levels(np.dtype(np.uint8), 2) == Levels(0, 3)
    assert stated_levels(np.dtype(bool), 1) == Levels(0, 1)
    for dtype, bits in ((np.int8, 8), (np.uint32, 32), (np.float16, 16)):
        assert stated_levels(np.dtype(dtype), bits) is None


def test_infinite_values_have_no_part_in_the_range():
    assert value_range([np.array([np.inf, 2.0]), np.array([np.nan]), np.array([-1.0, -np.inf])]) == (-1, 2)
    assert value_range([np.array([np.nan])]) is None
