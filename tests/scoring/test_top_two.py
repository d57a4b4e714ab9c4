"""Winner and runner-up against sorting, and the classes of query words against plain maxima."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from fgseg.scoring.top_two import class_top_two, looked_up
from fgseg.upsample.argmax import top_two

# Few values, so that ties are common.
stacks = st.integers(1, 5).flatmap(lambda count: arrays(np.float32, (count, 2, 3), elements=st.integers(-2, 2)))
property_test = settings(max_examples=60, deadline=None)


@property_test
@given(stacks)
def test_the_two_largest_are_those_of_a_sort_and_ties_go_to_the_lowest_index(maps):
    ordered = np.sort(np.concatenate([np.full_like(maps[:1], -np.inf), maps]), axis=0)
    for winner, best, second in (top_two(iter(maps)), top_two(iter(torch.from_numpy(maps)))):
        np.testing.assert_array_equal(winner, maps.argmax(axis=0))
        np.testing.assert_array_equal(best, ordered[-1])
        np.testing.assert_array_equal(second, ordered[-2])
    assert winner.dtype == torch.int32


def test_maps_that_come_in_are_left_alone():
    maps = np.random.RandomState(11).uniform(-1, 1, (3, 2, 2)).astype(np.float32)
    before = maps.copy()
    top_two(maps)
    np.testing.assert_array_equal(maps, before)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_a_class_counts_as_its_best_word_and_the_rival_is_the_best_background_word(kind):
    maps = np.random.RandomState(12).uniform(-1, 1, (6, 4, 5)).astype(np.float32)
    winner, best, rival = class_top_two(iter(kind(maps)), (0, 0, 1, 2, 2, 2), 2)
    classes = np.stack([maps[:2].max(axis=0), maps[2]])
    np.testing.assert_array_equal(winner, classes.argmax(axis=0))
    np.testing.assert_array_equal(best, classes.max(axis=0))
    np.testing.assert_array_equal(rival, maps[3:].max(axis=0))


def test_without_background_words_the_rival_is_the_best_other_class():
    maps = np.random.RandomState(13).uniform(-1, 1, (4, 4, 5)).astype(np.float32)
    _, _, rival = class_top_two(maps, (0, 0, 1, 2), 3)
    np.testing.assert_array_equal(rival, np.sort([maps[:2].max(axis=0), maps[2], maps[3]], axis=0)[-2])


def test_values_are_looked_up_by_32_and_64_bit_indexes():
    values = np.int32([5, -1, 7])
    for dtype in (np.int32, np.int64):
        found = looked_up(values, np.array([[2, 0], [1, 1]], dtype))
        np.testing.assert_array_equal(found, [[7, 5], [-1, -1]])
        assert found.dtype == np.int32
