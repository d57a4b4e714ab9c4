"""Values that pass between the stages."""

import numpy as np
import pytest
import torch

from fgseg.errors import OptionError, ShapeError
from fgseg.types import BoxScores, DenseFeatures, LazyMaps, Ranking, Region


def test_features_of_unit_length_are_accepted():
    assert DenseFeatures(torch.tensor([[[0.6, 0.8]]]), (8, 8)).image_hw == (8, 8)


@pytest.mark.parametrize("grid", [torch.ones(1, 1, 2), torch.full((1, 1, 2), torch.nan), torch.ones(0, 2, 3)])
def test_features_that_are_empty_or_not_of_unit_length_are_refused(grid):
    with pytest.raises(ShapeError, match="grid: expected unit length along D at every patch and no NaN"):
        DenseFeatures(grid, (8, 8))


def test_features_of_other_axes_are_refused():
    with pytest.raises(ShapeError, match=r"grid: expected an array of shape \(Gh, Gw, D\)"):
        DenseFeatures(torch.ones(3, 2), (8, 8))


@pytest.mark.parametrize("box", [(3, 0, 3, 2), (0, 2, 4, 1), (0, 0, 2, 2)])
def test_a_region_with_a_box_too_small_for_its_area_is_refused(box):
    with pytest.raises(OptionError, match="box_xyxy: expected a box that holds 5 pixels"):
        Region("red", 0, box, 5, (0.0, 0.0), 0.5, 0.5, 0)


def test_lazy_maps_compute_an_array_at_access_and_not_at_a_membership_test():
    computed = []

    def compute(index):
        computed.append(index)
        return np.full((1, 1), index)

    maps = LazyMaps(["red", "blue"], compute)
    assert "red" in maps
    assert "green" not in maps
    assert list(maps) == ["red", "blue"]
    assert len(maps) == 2
    assert computed == []
    assert maps["blue"][0, 0] == 1
    assert computed == [1]
    with pytest.raises(ValueError, match="read-only"):
        maps["blue"][0, 0] = 5
    with pytest.raises(KeyError, match="green"):
        maps["green"]


def test_lazy_maps_refuse_repeated_names():
    with pytest.raises(OptionError, match="names: expected unique names"):
        LazyMaps(["red", "red"], lambda index: np.zeros((1, 1)))


def test_the_array_behind_a_lazy_map_stays_writable():
    own = np.zeros((2, 2))
    shown = LazyMaps(["red"], lambda index: own)["red"]
    assert own.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        shown[0, 0] = 1


def test_a_ranking_puts_the_best_caption_first_and_keeps_the_order_of_ties():
    cosine = np.array([[0.1, 0.3, 0.3]], np.float32)
    assert Ranking(cosine, cosine, ("a", "b", "c")).order.tolist() == [[1, 2, 0]]


@pytest.mark.parametrize("kind", [BoxScores, Ranking])
def test_scores_without_one_column_per_text_are_refused(kind):
    scores = np.zeros((2, 3), np.float32)
    with pytest.raises(ShapeError, match=r"cosine: expected an array of shape \(N, 2\)"):
        kind(scores, scores, ("a", "b"))
    with pytest.raises(ShapeError, match=r"probabilities: expected an array of shape \(2, 3\)"):
        kind(scores, scores[:1], ("a", "b", "c"))
