"""Regions: box features against golden files and a plain RoIAlign, the table against plain counting."""

from math import ceil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import load_file

from fgseg.errors import OptionError, ShapeError
from fgseg.regions.pooling import box_features
from fgseg.regions.table import region_table
from fgseg.types import LazyMaps

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
SIDES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6)
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
        with pytest.raises(ShapeError, match=r"boxes_xyxy: .* in row 1, got"):
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


def flood(pixels, start, diagonal):
    """Every pixel of the set that is reached from one."""
    steps = [(-1, 0), (1, 0), (0, -1), (0, 1)] + diagonal * [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    found, waiting = {start}, [start]
    while waiting:
        y, x = waiting.pop()
        near = {(y + dy, x + dx) for dy, dx in steps} & pixels - found
        found |= near
        waiting.extend(near)
    return found


def split(pixels, *, diagonal):
    parts, rest = [], set(pixels)
    while rest:
        parts.append(flood(rest, min(rest), diagonal))
        rest -= parts[-1]
    return parts


def holes_of(part, shape):
    frame = {(y, x) for y in range(-1, shape[0] + 1) for x in range(-1, shape[1] + 1)}
    return len(split(frame - part, diagonal=False)) - 1  # all but the outside


@property_test
@given(arrays(bool, SIDES), st.integers(0, 5), st.integers(0, 99))
def test_the_region_table_is_a_plain_count_of_each_flooded_part(mask, min_area, seed):
    score = np.random.RandomState(seed).uniform(0, 1, mask.shape).astype(np.float32)
    parts = split({tuple(yx) for yx in np.argwhere(mask).tolist()}, diagonal=True)
    table = region_table({"cat": mask}, {"cat": score}, min_area=min_area)
    rows = {region.box_xyxy: region for region in table}
    large = [part for part in parts if len(part) >= min_area]
    assert len(rows) == len(table) == len(large)
    for part in large:
        y, x = np.array(sorted(part)).T
        region = rows[(x.min(), y.min(), x.max() + 1, y.max() + 1)]
        assert region.area == len(part)
        assert region.holes == holes_of(part, mask.shape)
        np.testing.assert_allclose(region.centroid_yx, (y.mean(), x.mean()), atol=1e-12)
        assert region.mean_score == pytest.approx(score[y, x].astype(float).mean(), abs=1e-12)
        assert region.peak_score == score[y, x].max()
        assert (region.class_name, region.class_index) == ("cat", 0)
    order = [(-region.area, region.box_xyxy[1], region.box_xyxy[0]) for region in table]
    assert order == sorted(order)


def test_the_region_table_keeps_the_order_of_the_classes_and_plain_numbers():
    mask = np.array([[True, False, True], [True, False, False]])
    score = np.full((2, 3), 0.75, np.float32)
    table = region_table({"b": mask, "a": ~mask}, {"a": score, "b": score})
    assert [(r.class_name, r.class_index, r.area) for r in table] == [("b", 0, 2), ("b", 0, 1), ("a", 1, 3)]
    numbers = (*table[0].box_xyxy, *table[0].centroid_yx, table[0].area, table[0].mean_score, table[0].holes)
    assert all(type(number) in (int, float) for number in numbers)


def test_an_island_in_a_hole_is_a_part_of_its_own_and_leaves_one_hole():
    mask = np.ones((5, 5), bool)
    mask[1:4, 1:4] = False
    mask[2, 2] = True
    ring, island = region_table({"a": mask}, {"a": np.ones((5, 5), np.float32)})
    assert (ring.area, ring.holes, island.area, island.holes) == (16, 1, 1, 0)


def test_classes_are_asked_for_once_and_scores_only_where_there_is_a_mask():
    asked = []
    score = np.ones((2, 2), np.float32)
    masks = LazyMaps(["none", "some"], lambda i: asked.append(i) or np.full((2, 2), i == 1))
    scores = LazyMaps(["none", "some"], lambda i: asked.append(f"score {i}") or score.copy())
    assert len(region_table(masks, scores)) == 1
    assert asked == [0, 1, "score 1"]


def test_no_masks_and_empty_masks_give_an_empty_table():
    assert region_table({}, {}) == ()
    for shape in ((2, 3), (0, 3)):
        assert region_table({"a": np.zeros(shape, bool)}, {"a": np.zeros(shape, np.float32)}) == ()


def test_the_region_table_refuses_missing_misshaped_and_impossible_scores():
    mask, score = np.ones((2, 3), bool), np.ones((2, 3), np.float32)
    with pytest.raises(OptionError, match="scores: expected a map for every class, got none for 'b'"):
        region_table({"a": mask, "b": mask}, {"a": score})
    with pytest.raises(ShapeError, match=r"scores\['a'\]: expected an array of shape \(2, 3\)"):
        region_table({"a": mask}, {"a": score.T})
    for bad in (np.nan, 1.5, -0.1):
        with pytest.raises(ShapeError, match=r"scores\['a'\]: expected presence in \[0, 1\]"):
            region_table({"a": mask}, {"a": np.where(np.eye(2, 3), bad, score).astype(np.float32)})
    with pytest.raises(ShapeError, match=r"masks\['a'\]: expected a mask"):
        region_table({"a": score}, {"a": score})
    with pytest.raises(OptionError, match="min_area"):
        region_table({"a": mask}, {"a": score}, min_area=-1)
