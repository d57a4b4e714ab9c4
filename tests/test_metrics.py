import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_erosion, maximum_filter, minimum_filter
from torchmetrics.classification import MulticlassJaccardIndex

from fgseg.errors import OptionError, ShapeError
from fgseg.metrics import (
    accuracy,
    boundary_counts,
    boundary_distance,
    boundary_iou,
    boundary_mask,
    confusion,
    iou,
    mean_accuracy,
    mean_iou,
)

SIZES = st.tuples(st.integers(1, 6), st.integers(1, 6))
few = settings(deadline=None, max_examples=60)


@st.composite
def pairs(draw):
    size = draw(SIZES)
    truth = draw(arrays(np.int32, size, elements=st.sampled_from([0, 1, 2, 255])))
    return draw(arrays(np.int32, size, elements=st.integers(0, 2))), truth


def counted_one_by_one(prediction, truth, num_classes, ignore):
    counts = np.zeros((num_classes, num_classes), np.int64)
    for guess, right in zip(prediction.ravel(), truth.ravel(), strict=True):
        if right != ignore:
            counts[right, guess] += 1
    return counts


@few
@given(pairs())
def test_confusion_equals_counting_pixel_by_pixel(pair):
    prediction, truth = pair
    np.testing.assert_array_equal(confusion(prediction, truth, 3), counted_one_by_one(prediction, truth, 3, 255))


@few
@given(pairs())
def test_iou_equals_the_set_definition(pair):
    prediction, truth = pair
    per_class = iou(confusion(prediction, truth, 3))
    seen = truth != 255
    for index in range(3):
        guess, right = (prediction == index) & seen, (truth == index) & seen
        union = (guess | right).sum()
        expected = (guess & right).sum() / union if union else np.nan
        np.testing.assert_equal(per_class[index], expected)


@few
@given(pairs())
def test_iou_is_symmetric_in_truth_and_prediction(pair):
    prediction, truth = pair
    truth = np.where(truth == 255, 0, truth)
    np.testing.assert_array_equal(iou(confusion(prediction, truth, 3)), iou(confusion(truth, prediction, 3)))


@few
@given(pairs())
def test_counts_of_two_halves_add_up_to_the_whole(pair):
    prediction, truth = pair
    halves = [confusion(prediction[part], truth[part], 3) for part in (slice(None, 1), slice(1, None))]
    np.testing.assert_array_equal(sum(halves), confusion(prediction, truth, 3))


def test_summing_images_is_not_averaging_their_iou():
    # Image one has 1 of 1 pixel right and image two 1 of 3: summed 2 of 4, averaged 2 of 3.
    one = confusion(np.array([[0]]), np.array([[0]]), 2)
    two = confusion(np.array([[0, 1, 1]]), np.array([[0, 0, 0]]), 2)
    assert iou(one + two)[0] == 0.5


def test_an_absent_class_is_nan_and_not_in_the_mean_and_a_class_that_is_only_predicted_is_zero():
    counts = confusion(np.array([[0, 1]]), np.array([[0, 0]]), 3)
    np.testing.assert_array_equal(iou(counts), [0.5, 0.0, np.nan])
    assert mean_iou(counts) == 0.25
    assert mean_accuracy(counts) == 0.5


def test_rows_of_the_confusion_are_true_classes():
    assert confusion(np.array([[1]]), np.array([[0]]), 2).tolist() == [[0, 1], [0, 0]]


def test_an_empty_count_gives_nan_without_a_warning():
    counts = np.zeros((2, 2), np.int64)
    assert np.isnan([mean_iou(counts), accuracy(counts), mean_accuracy(counts)]).all()


def test_ignore_none_counts_every_pixel():
    assert confusion(np.array([[0]], np.uint8), np.array([[255]], np.uint8), 256, ignore=None)[255, 0] == 1


def test_large_counts_do_not_overflow():
    counts = np.array([[2**40, 1], [1, 2**40]])
    assert accuracy(counts) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("prediction", "truth", "num_classes", "error", "message"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), 2, ShapeError, "prediction: expected an array of shape"),
        (np.zeros((2, 2)), np.zeros((2, 2), int), 2, ShapeError, "prediction: expected a numpy array of integers"),
        (np.full((1, 1), 2), np.zeros((1, 1), int), 2, ShapeError, "prediction: expected values from 0 to 1, got 2"),
        (np.full((1, 1), -1), np.zeros((1, 1), int), 2, ShapeError, "prediction: expected values from 0 to 1, got -1"),
        (np.zeros((1, 1), int), np.full((1, 1), 7), 2, ShapeError, "truth: expected values from 0 to 1, got 7"),
        (np.zeros((1, 1), int), np.zeros((1, 1), int), 0, OptionError, "num_classes: expected a whole number from 1"),
    ],
)
def test_confusion_refuses_maps_and_labels_that_do_not_fit(prediction, truth, num_classes, error, message):
    with pytest.raises(error, match=message):
        confusion(prediction, truth, num_classes)


def test_iou_refuses_a_confusion_that_is_not_square():
    with pytest.raises(ShapeError, match="counts: expected an array of shape"):
        iou(np.zeros((2, 3), np.int64))


@few
@given(pairs())
def test_iou_equals_that_of_torchmetrics(pair):
    prediction, truth = pair
    metric = MulticlassJaccardIndex(3, average="none", ignore_index=255, zero_division=-1.0)
    metric.update(torch.from_numpy(prediction)[None], torch.from_numpy(truth)[None])
    theirs = metric.compute().numpy()
    ours = iou(confusion(prediction, truth, 3))
    # torchmetrics returns `zero_division` for a class in neither map.
    np.testing.assert_allclose(np.where(np.isnan(ours), -1, ours), theirs, atol=1e-6)


# --- boundaries


def eroded_boundary(mask, distance):
    """Cheng et al.: what erosion by a square removes, where nothing outside the image belongs to the mask."""
    return mask & ~binary_erosion(np.pad(mask, 1), np.ones((3, 3)), iterations=distance)[1:-1, 1:-1]


@few
@given(pairs(), st.integers(1, 4))
def test_boundary_counts_equal_those_of_eroding_each_class(pair, distance):
    prediction, truth = pair
    counts = boundary_counts(prediction, truth, 3, distance=distance)
    for index in range(3):
        given_edge, true_edge = (
            eroded_boundary((labels == index) & (truth != 255), distance) for labels in (prediction, truth)
        )
        expected = (given_edge & true_edge).sum(), given_edge.sum(), true_edge.sum()
        assert counts[:, index].tolist() == [int(value) for value in expected]


@few
@given(arrays(np.int32, SIZES, elements=st.integers(-1, 2)), st.integers(1, 9))
def test_a_boundary_mask_is_true_where_the_square_holds_several_labels(labels, distance):
    framed = np.pad(labels, 1, constant_values=-9)
    size = 2 * distance + 1
    expected = maximum_filter(framed, size, mode="nearest") != minimum_filter(framed, size, mode="nearest")
    np.testing.assert_array_equal(boundary_mask(labels, distance), expected[1:-1, 1:-1])


def test_boundary_iou_of_a_shifted_square_is_lower_than_its_iou():
    truth, shifted = np.zeros((40, 40), int), np.zeros((40, 40), int)
    truth[10:30, 10:30] = shifted[12:32, 10:30] = 1
    counts = boundary_counts(shifted, truth, 2, distance=2)
    assert boundary_iou(counts)[1] < iou(confusion(shifted, truth, 2))[1]
    assert boundary_iou(boundary_counts(truth, truth, 2)).tolist() == [1, 1]


def test_the_boundary_is_two_percent_of_the_diagonal():
    assert [boundary_distance(hw) for hw in ((300, 400), (1024, 2048), (3, 4))] == [10, 46, 1]


def test_boundaries_out_of_range_are_refused():
    labels = np.zeros((2, 2), int)
    with pytest.raises(OptionError, match="distance"):
        boundary_counts(labels, labels, 1, distance=0)
    with pytest.raises(ShapeError, match=r"counts: expected an array of shape \(3, C\)"):
        boundary_iou(np.zeros((2, 2), int))
    with pytest.raises(ShapeError, match="prediction: expected values from 0 to 0, got 1 to 1"):
        boundary_counts(labels + 1, labels, 1)


def test_the_number_of_classes_may_be_a_small_numpy_integer():
    truth = np.uint8([[0, 3, 18, 3]])
    counts = confusion(truth, truth, np.uint8(20))  # 20 * 20 does not fit into 8 bits
    np.testing.assert_array_equal(counts, confusion(truth, truth, 20))
    np.testing.assert_array_equal(boundary_counts(truth, truth, np.uint8(20)), boundary_counts(truth, truth, 20))


@pytest.mark.parametrize("num_classes", [1.5, 10**9, "2"])
def test_an_invalid_number_of_classes_is_refused(num_classes):
    labels = np.zeros((2, 2), int)
    with pytest.raises(OptionError, match="num_classes: expected a whole number from 1 to 65535"):
        confusion(labels, labels, num_classes)
    with pytest.raises(OptionError, match="num_classes: expected a whole number from 1 to 65535"):
        boundary_counts(labels, labels, num_classes)


def test_a_boundary_mask_needs_integer_labels_and_an_integer_distance():
    with pytest.raises(ShapeError, match="labels: expected a numpy array of integers"):
        boundary_mask(np.array([[0.2, 0.8]]), 1)
    with pytest.raises(OptionError, match="distance: expected a whole number"):
        boundary_mask(np.zeros((2, 2), int), 1.5)
