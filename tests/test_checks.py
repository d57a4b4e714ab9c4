"""Argument checks."""

import numpy as np
import pytest
import torch

from fgseg._checks import check_boxes, check_color, check_integers, check_number, check_shares, check_whole
from fgseg.errors import OptionError, ShapeError


@pytest.mark.parametrize(
    ("check", "value", "expected"),
    [
        (check_number, np.float32(0.5), 0.5),
        (check_number, 3, 3.0),
        (check_whole, np.int64(5), 5),
        (check_whole, 4.0, 4),
    ],
)
def test_a_checked_number_is_returned_as_an_int_or_float_of_python(check, value, expected):
    checked = check("size", value, low=0, high=9)
    assert (checked, type(checked)) == (expected, type(expected))


@pytest.mark.parametrize("value", [True, "3", None, -1, 10, float("nan"), float("inf")])
@pytest.mark.parametrize(("check", "what"), [(check_number, "a number"), (check_whole, "a whole number")])
def test_a_value_that_is_no_number_in_range_is_refused(check, what, value):
    with pytest.raises(OptionError, match=f"^size: expected {what} from 0 to 9, got .*; in pixels$"):
        check("size", value, low=0, high=9, hint="in pixels")


def test_infinity_and_fractions_are_refused():
    with pytest.raises(OptionError, match="expected a number from 0 to inf, got inf"):
        check_number("size", float("inf"), low=0, high=float("inf"))
    with pytest.raises(OptionError, match=r"expected a whole number from 0 to 9, got 2\.5"):
        check_whole("size", 2.5, low=0, high=9)


def test_integers_in_range_are_accepted_in_arrays_of_any_shape():
    for values in (np.array([-1, 2], np.int8), np.full((2, 3), 2, np.uint16), np.zeros((0, 4), int)):
        check_integers("labels", values, low=-1, high=2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            np.zeros(2),
            r"labels: expected a numpy array of integers, got ndarray .* dtype float64; cast",
        ),
        (np.zeros(2, bool), "labels: expected a numpy array of integers, got .* dtype bool; cast"),
        ([1, 2], r"labels: expected a numpy array of integers, got list \[1, 2\]; cast"),
        (torch.zeros(2, dtype=torch.int32), "labels: expected a numpy array of integers, got Tensor"),
        (np.array([0, 3]), "labels: expected values from -1 to 2, got 0 to 3; cast"),
        (np.array([-2, 0]), "labels: expected values from -1 to 2, got -2 to 0; cast"),
    ],
)
def test_other_arrays_and_values_out_of_range_are_refused(values, message):
    with pytest.raises(ShapeError, match=message):
        check_integers("labels", values, low=-1, high=2, hint="cast them")


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_boxes_are_checked_in_arrays_and_in_tensors(kind):
    check_boxes("boxes_xyxy", kind([[0, 0, 3, 2], [-1, 0, 9, 1]]))
    check_boxes("boxes_xyxy", kind([[0.0, 0.0, 3.0, 2.0]]), image_hw=(2, 3))
    check_boxes("boxes_xyxy", kind([[0.0] * 4] * 0).reshape(0, 4))
    with pytest.raises(ShapeError, match=r"boxes_xyxy: expected an array of shape \(N, 4\)"):
        check_boxes("boxes_xyxy", kind([0, 0, 3, 2]))
    for box in ([3, 0, 3, 2], [0, 2, 3, 1], [0, 0, float("nan"), 1], [0, 0, float("inf"), 1], [-float("inf"), 0, 1, 1]):
        with pytest.raises(ShapeError, match="expected finite numbers in row 1, with left < right and top < bottom"):
            check_boxes("boxes_xyxy", kind([[0, 0, 1, 1], box]))
    with pytest.raises(ShapeError, match="a box within the image, 3 pixels wide and 2 high in row 0, with"):
        check_boxes("boxes_xyxy", kind([[0, 0, 4, 2]]), image_hw=(2, 3))


def test_a_box_of_unsigned_integers_with_right_before_left_is_refused():
    with pytest.raises(ShapeError, match="in row 0"):
        check_boxes("boxes_xyxy", np.array([[3, 0, 1, 2]], np.uint8))


def test_a_color_may_consist_of_numpy_integers():
    check_color("color", tuple(np.uint8([1, 2, 255])))
    with pytest.raises(OptionError, match=r"color: expected \(red, green, blue\), whole numbers from 0 to 255, got"):
        check_color("color", (0, 0, 256))


def test_shares_lie_between_0_and_1_up_to_the_slack():
    check_shares("opacity", np.array([0.0, 0.5, 1.0]))
    check_shares("opacity", np.empty(0))
    check_shares("opacity", np.array([-0.1, 1.1]), slack=0.1)
    for values, got in (([0, 1.5], "0 to 1.5"), ([-0.1, 1], "-0.1 to 1"), ([0.5, np.nan], "nan to nan")):
        with pytest.raises(ShapeError, match=rf"opacity: expected values in \[0, 1\], got {got}; divide"):
            check_shares("opacity", np.array(values), hint="divide")
