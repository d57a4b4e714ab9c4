from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import load_file

from fgseg.errors import OptionError, ShapeError
from fgseg.guides.votes import check_vote, vote
from fgseg.types import UNLABELLED

GOLDEN = load_file(Path(__file__).parents[1] / "data" / "guides" / "corrclip_maps.safetensors")


@st.composite
def labels_and_regions(draw):
    shape = draw(array_shapes(min_dims=2, max_dims=2, max_side=6))
    return tuple(draw(arrays(np.int32, shape, elements=st.integers(-1, high))) for high in (3, 2))


@pytest.mark.parametrize("case", ["map_a", "map_b"])
def test_a_vote_is_the_published_correction(case):
    """CorrCLIP takes the smallest region for the part without regions, also where it is a region (map_b)."""
    regions, before = GOLDEN[f"{case}.regions"], GOLDEN[f"{case}.labels_before"]
    without_smallest = np.where(regions == regions.min(), np.int32(-1), regions)
    np.testing.assert_array_equal(vote(before, without_smallest), GOLDEN[f"{case}.labels"])
    assert (before != GOLDEN[f"{case}.labels"]).any()


def test_the_smallest_region_votes_too():
    regions, before = GOLDEN["map_b.regions"], GOLDEN["map_b.labels_before"]
    smallest = regions == regions.min()
    assert len(np.unique(before[smallest])) > 1
    assert len(np.unique(vote(before, regions)[smallest])) == 1


@settings(max_examples=60, deadline=None)
@given(labels_and_regions())
def test_every_region_takes_its_most_frequent_label_and_the_smallest_of_equal_ones(given_maps):
    labels, regions = given_maps
    expected = labels.copy()
    for number in set(regions[regions >= 0].tolist()):
        inside = labels[regions == number].tolist()
        expected[regions == number] = min(set(inside), key=lambda label: (-inside.count(label), label))
    found = vote(labels, regions)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(vote(found, regions), found)
    assert found.dtype == np.int32


def test_one_region_of_the_whole_image_makes_one_label():
    labels = np.int32([[0, 1], [1, 2]])
    np.testing.assert_array_equal(vote(labels, np.zeros((2, 2), np.int32)), np.full((2, 2), 1))


def test_no_class_counts_as_a_label_and_wins_a_tie():
    labels = np.int32([[UNLABELLED, UNLABELLED, 0], [UNLABELLED, 0, 0]])
    regions = np.int32([[0, 0, 0], [1, 1, -1]])
    np.testing.assert_array_equal(vote(labels, regions), [[-1, -1, -1], [-1, -1, 0]])


def test_arguments_are_left_as_they_were():
    labels = np.int32([[0, 1, 1]])
    vote(labels, np.zeros((1, 3), np.int32))
    np.testing.assert_array_equal(labels, [[0, 1, 1]])


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match=r"regions: expected an array of shape \(1, 3\).*one number for each pixel"):
        vote(np.zeros((1, 3), np.int32), np.zeros((3, 1), np.int32))
    with pytest.raises(ShapeError, match="labels: expected"):
        vote(np.zeros((1, 3), np.float32), np.zeros((1, 3), np.int32))


def test_regions_and_a_vote_come_together():
    check_vote(has_regions=False, vote=False, recipe="value")
    check_vote(has_regions=True, vote=True, recipe=None)
    check_vote(has_regions=True, vote=False, recipe="corr")
    with pytest.raises(OptionError, match="vote: expected regions that vote, got none; give a region map"):
        check_vote(has_regions=False, vote=True, recipe="value")
    with pytest.raises(OptionError, match="region_map: nothing uses the regions unless they vote; give vote=True"):
        check_vote(has_regions=True, vote=False, recipe="value")
    with pytest.raises(OptionError, match="vote: expected True or False, got 'yes'"):
        check_vote(has_regions=True, vote="yes", recipe="value")
