"""Presence, thresholds and exclusive labels against hand-worked examples and plain searches."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fgseg.errors import OptionError, ShapeError
from fgseg.scoring.presence import automatic_threshold, exclusive_labels, presence

SIDES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6)
property_test = settings(max_examples=60, deadline=None)


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


def test_exclusive_labels_drop_weak_winners_and_leave_the_labels_unchanged():
    labels = np.int32([[0, 1, 2]])
    best, rival = np.float32([[0.3, 0.2, 0.1]]), np.full((1, 3), 0.2, np.float32)
    kept = exclusive_labels(labels, best, rival, threshold=0.5, logit_scale=40)
    np.testing.assert_array_equal(kept, [[0, 1, -1]])
    assert kept.dtype == np.int32
    np.testing.assert_array_equal(labels, [[0, 1, 2]])


def test_automatic_threshold_lies_between_two_modes_on_either_side_of_a_half():
    values = np.random.RandomState(41).uniform(-0.05, 0.05, (40, 50)).astype(np.float32)
    values[:, :20] += 0.9
    values[:, 20:] += 0.4
    threshold = automatic_threshold(values)
    assert 0.5 <= threshold <= 0.85
    np.testing.assert_array_equal(values >= threshold, np.arange(50) < np.full((40, 1), 20))


def test_automatic_threshold_never_marks_an_absent_class_and_never_cuts_one_that_is_everywhere():
    absent = np.random.RandomState(42).uniform(0, 0.49, (20, 20)).astype(np.float32)
    assert automatic_threshold(absent) == 0.5
    assert not (absent >= 0.5).any()
    everywhere = np.random.RandomState(43).uniform(0.6, 1, (20, 20)).astype(np.float32)
    assert automatic_threshold(everywhere) == 0.5
    assert (everywhere >= 0.5).all()


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


def test_an_automatic_threshold_refuses_other_maps_than_presence():
    for bad in (-0.1, 1.1, np.nan):
        with pytest.raises(ShapeError, match=r"presence_map: expected values in \[0, 1\]"):
            automatic_threshold(np.float32([[0.2, bad]]))
    with pytest.raises(ShapeError, match="presence_map"):
        automatic_threshold(np.zeros(3, np.float32))
    with pytest.raises(OptionError, match="low"):
        automatic_threshold(np.float32([[0.2]]), low=-1)
