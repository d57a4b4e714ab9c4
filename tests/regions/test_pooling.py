"""Box features against golden files and a plain RoIAlign."""

from math import ceil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.numpy import load_file

from fgseg.errors import ShapeError
from fgseg.regions.pooling import box_features, checked_boxes, pool_boxes

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
property_test = settings(max_examples=60, deadline=None)


def sampled(grid, y, x):
    """One bilinear sample as RoIAlign takes it: 0 beyond one cell outside, the border's value nearer."""
    height, width, _ = grid.shape
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros(grid.shape[2])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    above = grid[y0, x0] * (1 - (x - x0)) + grid[y0, x1] * (x - x0)
    below = grid[y1, x0] * (1 - (x - x0)) + grid[y1, x1] * (x - x0)
    return above * (1 - (y - y0)) + below * (y - y0)


def plain_roi_align(grid, box):
    left, top, right, bottom = (float(side) - 0.5 for side in box)
    rows, columns = ceil(bottom - top), ceil(right - left)
    total = np.zeros(grid.shape[2])
    for i in range(rows):
        for j in range(columns):
            y = top + (i + 0.5) * (bottom - top) / rows
            x = left + (j + 0.5) * (right - left) / columns
            total += sampled(grid, y, x)
    return total / (rows * columns)


@pytest.mark.parametrize(("folder", "side"), [("fgclip1_a", 6), ("fgclip1_b", 8)])
def test_box_features_are_those_of_the_published_fgclip_1(folder, side):
    golden = load_file(GOLDEN / folder / "golden.safetensors")
    grids = golden["dense"].reshape(2, side, side, -1)
    found = np.concatenate([box_features(grids[image], golden[f"boxes{image}"]) for image in (0, 1)])
    np.testing.assert_allclose(found, golden["roi"], atol=1e-4)


def test_box_features_are_those_of_the_published_fgclip_2_on_grids_that_are_not_square():
    golden = load_file(GOLDEN / "fgclip2_a" / "golden.safetensors")
    cases = (
        (0, (5, 7), (160, 224), [[10, 20, 200, 150], [0, 0, 50, 60]]),
        (1, (8, 4), (256, 128), [[5, 5, 100, 200]]),
    )
    for image, grid_hw, image_hw, boxes in cases:
        (rows, columns), (height, width) = grid_hw, image_hw
        grid = golden[f"dense{image}"].reshape(rows, columns, -1)
        scale = np.float32([columns / width, rows / height] * 2)
        found = box_features(grid, np.float32(boxes) * scale)
        np.testing.assert_allclose(found, golden[f"regions{image}"], atol=1e-4)


@st.composite
def grids_with_boxes(draw):
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    grid = np.random.RandomState(draw(st.integers(0, 99))).uniform(-1, 1, (height, width, 3))
    quarters = st.integers(-12, 36)
    corners = draw(st.lists(st.tuples(quarters, quarters, st.integers(1, 40), st.integers(1, 40)), max_size=4))
    boxes = [(x / 4, y / 4, (x + w) / 4, (y + h) / 4) for x, y, w, h in corners]
    return grid, np.array(boxes).reshape(-1, 4)


@property_test
@given(grids_with_boxes())
def test_box_features_equal_a_plain_roi_align_inside_outside_and_below_one_cell(case):
    grid, boxes = case
    expected = np.array([plain_roi_align(grid, box) for box in boxes]).reshape(-1, 3)
    # Quarters are exact, so both sample the same points; float64 sums of at most 100 samples.
    np.testing.assert_allclose(box_features(grid, boxes), expected, atol=1e-12)


@property_test
@given(grids_with_boxes())
def test_a_box_inside_the_grid_lies_between_the_smallest_and_largest_feature(case):
    grid, boxes = case
    inside = np.clip(boxes, 0, np.array([grid.shape[1], grid.shape[0]] * 2))
    inside = inside[(inside[:, :2] < inside[:, 2:]).all(axis=1)]
    found = box_features(grid, inside)
    assert (found >= grid.min(axis=(0, 1)) - 1e-12).all()
    assert (found <= grid.max(axis=(0, 1)) + 1e-12).all()


def test_the_box_of_the_whole_grid_is_its_mean_and_the_box_of_a_cell_is_that_cell():
    grid = np.random.RandomState(7).uniform(-1, 1, (3, 4, 2)).astype(np.float32)
    found = box_features(grid, np.float32([[0, 0, 4, 3], [2, 1, 3, 2]]))
    np.testing.assert_allclose(found[0], grid.mean(axis=(0, 1)), atol=1e-6)  # float32, 12 adds
    np.testing.assert_allclose(found[1], grid[1, 2], atol=1e-7)


def test_boxes_far_outside_are_zero_and_huge_ones_take_no_more_memory_than_the_grid():
    grid = np.ones((2, 3, 1))
    boxes = np.array([[50, 50, 60, 60], [-9, -9, -8.999999, -8.9], [-1e9, -1e9, 1e9, 1e9]])
    far, tiny, huge = box_features(grid, boxes)[:, 0]
    assert far == tiny == 0
    # samples between -1 and the side are 1: at most 4 rows by 5 columns of 2e9 squared
    assert 0 < huge <= 20 / 4e18
    assert box_features(grid, np.array([[-60, -50, 60, 50]]))[0, 0] == pytest.approx(
        plain_roi_align(grid, (-60, -50, 60, 50))[0], rel=1e-9
    )


def test_a_box_that_float32_cannot_tell_from_a_point_is_sampled_once():
    grid = np.ones((2, 3, 1), np.float32)
    # 8.25 and 1.25 cells outside, where float32 is coarser than at the box itself, and half a cell outside
    far, near = (-7.75 - 2**-21, -7.75), (-0.75 - 2**-24, -0.75)
    for sides, expected in ((far, 0), (near, 0), ((0, 1e-9), 1)):
        left, right = np.float32(sides)
        assert left < right
        assert left - np.float32(0.5) == right - np.float32(0.5)
        assert box_features(grid, np.float32([[left, 0, right, 1]])).tolist() == [[expected]]


def test_box_features_keep_kind_and_dtype_and_carry_gradients():
    grid = np.random.RandomState(8).uniform(-1, 1, (3, 4, 2)).astype(np.float32)
    boxes = np.float32([[0.5, 0, 3, 2]])
    expected = box_features(grid, boxes)
    assert isinstance(expected, np.ndarray)
    assert expected.dtype == np.float32
    tensor = torch.from_numpy(grid).requires_grad_()
    found = box_features(tensor, torch.from_numpy(boxes))
    np.testing.assert_array_equal(found.detach().numpy(), expected)
    found.sum().backward()
    assert float(tensor.grad.sum()) == pytest.approx(2, abs=1e-6)  # the weights of a box inside add to one
    state = torch.from_numpy(grid).bfloat16()
    rounded_last = box_features(state.float(), torch.from_numpy(boxes)).bfloat16()
    assert torch.equal(box_features(state, torch.from_numpy(boxes)), rounded_last)
    half = box_features(tensor.detach().bfloat16(), torch.from_numpy(boxes))
    assert half.dtype == torch.bfloat16
    np.testing.assert_allclose(half.float().numpy(), expected, atol=1e-2)  # bf16 features: 8 bits
    assert box_features(grid, np.empty((0, 4), np.float32)).shape == (0, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(box_features(torch.from_numpy(grid), torch.from_numpy(boxes)), expected)


def test_many_boxes_equal_each_alone():
    state = np.random.RandomState(9)
    grid = state.uniform(-1, 1, (5, 6, 2))
    left_top = state.uniform(-1, 5, (600, 2))
    boxes = np.concatenate([left_top, left_top + state.uniform(0.1, 6, (600, 2))], axis=1)
    together = box_features(grid, boxes)
    assert together.shape == (600, 2)
    for row in (0, 255, 256, 599):
        np.testing.assert_allclose(together[row], box_features(grid, boxes[row : row + 1])[0], atol=1e-12)


def test_box_features_refuse_bad_boxes_naming_the_row():
    grid = np.zeros((2, 2, 1), np.float32)
    good = [0.0, 0, 1, 1]
    for bad in ([1, 0, 1, 1], [0, 1, 1, 0], [0, np.nan, 1, 1], [0, 0, np.inf, 1], [-np.inf, 0, np.inf, 1]):
        with pytest.raises(ShapeError, match=r"boxes_xyxy: .* in row 1, with left < right"):
            box_features(grid, np.float32([good, bad]))
    for shape in ((4,), (1, 5)):
        with pytest.raises(ShapeError, match=r"boxes_xyxy: expected an array of shape \(N, 4\)"):
            box_features(grid, np.zeros(shape, np.float32))


def test_box_features_refuse_a_grid_of_another_kind():
    boxes = np.float32([[0, 0, 1, 1]])
    with pytest.raises(ShapeError, match=r"grid: expected an array of shape \(Gh, Gw, D\)"):
        box_features(np.zeros((1, 2, 2, 3), np.float32), boxes)
    for grid in (np.zeros((2, 2, 1), int), np.zeros((0, 2, 1), np.float32)):
        with pytest.raises(ShapeError, match="grid: expected float features of at least one cell"):
            box_features(grid, boxes)


def test_boxes_in_pixels_are_pooled_as_those_in_grid_cells():
    grid = torch.from_numpy(np.random.RandomState(10).uniform(-1, 1, (3, 5, 4)).astype(np.float32))
    boxes = np.float32([[0, 0, 100, 60], [20, 20, 60, 50], [99, 0, 100, 1]])
    expected = box_features(grid, torch.from_numpy(boxes) / 20)
    np.testing.assert_allclose(pool_boxes(grid, boxes, (60, 100)), expected, atol=1e-6)  # 1/20 is rounded in float32
    assert pool_boxes(grid, boxes[:0], (60, 100)).shape == (0, 4)


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4)), [[0, 1, 4, 3]], np.array([[0, 1, 4, 3]], int)])
def test_boxes_in_pixels_become_a_new_float32_array(boxes):
    checked = checked_boxes(boxes, (3, 4))
    assert checked.dtype == np.float32
    assert checked.shape == (len(boxes), 4)
    np.testing.assert_array_equal(checked, np.reshape(boxes, (-1, 4)))


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (
            [[0, 0, 1, 1], [0, 0, 5, 1]],
            r"expected a box within the image, 4 pixels wide and 3 high in row 1.*got \[0.0, 0.0, 5.0",
        ),
        ([[0, 0, 1, 4]], "within the image, 4 pixels wide and 3 high in row 0"),
        ([[-1, 0, 1, 1]], "within the image, 4 pixels wide and 3 high in row 0"),
        ([[0, 2, 1, 1]], "left < right and top < bottom"),
        ([[0, 0, np.nan, 1]], "within the image, 4 pixels wide and 3 high in row 0"),
        ([[0, 0, 1]], r"expected an array of shape \(N, 4\).*one row \(left, top, right, bottom\) for each box"),
        ([["a", 0, 1, 1]], r"expected \(left, top, right, bottom\) numbers per row"),
        ([[0, 0, 1, 1], [0]], r"expected \(left, top, right, bottom\) numbers per row"),
    ],
)
def test_boxes_that_are_not_inside_the_image_are_refused_by_their_row(boxes, message):
    with pytest.raises(ShapeError, match=f"boxes_xyxy: .*{message}"):
        checked_boxes(boxes, (3, 4))


def test_boxes_that_all_lie_within_the_first_pixel_are_questioned(caplog):
    checked_boxes([[0, 0.2, 0.5, 1]], (10, 40))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "normalised, multiply x by 40 and y by 10" in caplog.text
    caplog.clear()
    checked_boxes([[0, 0, 1, 1], [0, 0, 2, 1]], (10, 40))
    checked_boxes([[0, 0, 1, 1]], (1, 1))
    checked_boxes([], (10, 40))
    assert not caplog.records
