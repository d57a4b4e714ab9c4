import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from fgseg.errors import OptionError, ShapeError
from fgseg.scoring.windows import crops, stitch_chunks, window_boxes

SEEDS = st.integers(0, 2**32 - 1)


def noise(seed, height, width):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


# window_boxes, crops


def protocol_boxes(height, width, crop, stride):
    """The loop of the published evaluation code, written out."""
    rows = max(height - crop + stride - 1, 0) // stride + 1
    columns = max(width - crop + stride - 1, 0) // stride + 1
    boxes = []
    for row in range(rows):
        for column in range(columns):
            bottom, right = min(row * stride + crop, height), min(column * stride + crop, width)
            boxes.append((max(right - crop, 0), max(bottom - crop, 0), right, bottom))
    return tuple(boxes)


@given(image_hw=st.tuples(st.integers(1, 40), st.integers(1, 40)), crop=st.integers(1, 20), stride=st.integers(1, 20))
@settings(deadline=None, max_examples=200)
def test_windows_equal_those_of_the_protocol_cover_every_pixel_and_stay_inside(image_hw, crop, stride):
    stride = min(stride, crop)
    boxes = window_boxes(image_hw, crop=crop, stride=stride)
    assert boxes == protocol_boxes(*image_hw, crop, stride)
    covered = np.zeros(image_hw, bool)
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= image_hw[1]
        assert 0 <= top < bottom <= image_hw[0]
        assert (bottom - top, right - left) == (min(crop, image_hw[0]), min(crop, image_hw[1]))
        covered[top:bottom, left:right] = True
    assert covered.all()
    assert len(set(boxes)) == len(boxes)


def test_a_short_side_of_336_with_the_published_windows_gives_two_rows_of_three():
    boxes = window_boxes((336, 448), crop=224, stride=112)
    assert boxes[:3] == ((0, 0, 224, 224), (112, 0, 336, 224), (224, 0, 448, 224))
    assert len(boxes) == 6


@pytest.mark.parametrize(
    ("image_hw", "crop", "stride", "name"),
    [((4, 0), 2, 1, "image_hw"), ((4, 4), 0, 1, "crop"), ((4, 4), 2, 0, "stride"), ((4, 4), 2, 3, "stride.*gaps")],
)
def test_windows_that_cannot_cover_are_refused(image_hw, crop, stride, name):
    with pytest.raises(OptionError, match=name):
        window_boxes(image_hw, crop=crop, stride=stride)


def test_crops_are_views_of_the_boxes():
    image = noise(6, 5, 7)
    (window,) = crops(image, [(2, 1, 6, 4)])
    np.testing.assert_array_equal(window, image[1:4, 2:6])
    assert np.shares_memory(window, image)


@pytest.mark.parametrize("box", [(0, 0, 8, 5), (0, 0, 7, 6), (-1, 0, 2, 2), (3, 0, 3, 2), (0, 4, 2, 3)])
def test_a_box_outside_the_image_or_empty_is_refused(box):
    with pytest.raises(ShapeError, match=r"boxes: expected a box within the image, 7 pixels wide and 5 high"):
        crops(noise(7, 5, 7), [box])


# stitch_chunks


def stitched(*arguments):
    return torch.cat(list(stitch_chunks(*arguments)))


def test_a_window_over_the_whole_canvas_is_bilinear_as_opencv_draws_it():
    scores = np.random.RandomState(8).uniform(-1, 1, (3, 4, 5)).astype(np.float32)
    canvas = stitched([torch.from_numpy(scores)], [(0, 0, 40, 30)], (30, 40))
    for drawn, grid in zip(canvas, scores, strict=True):
        np.testing.assert_allclose(drawn, cv2.resize(grid, (40, 30)), atol=1e-6)  # float32, four products


@given(seed=SEEDS, image_hw=st.tuples(st.integers(1, 20), st.integers(1, 20)), crop=st.integers(2, 9))
@settings(deadline=None, max_examples=60)
def test_a_canvas_is_the_mean_of_the_windows_over_each_pixel(seed, image_hw, crop):
    rng = np.random.RandomState(seed)
    boxes = window_boxes(image_hw, crop=crop, stride=max(crop // 2, 1))
    windows = [rng.uniform(-1, 1, (2, *rng.randint(1, 4, 2))).astype(np.float32) for _ in boxes]
    total, count = np.zeros((2, *image_hw)), np.zeros(image_hw)
    for scores, (left, top, right, bottom) in zip(windows, boxes, strict=True):
        drawn = [cv2.resize(grid, (right - left, bottom - top)) for grid in scores]
        total[:, top:bottom, left:right] += np.reshape(drawn, (2, bottom - top, right - left))
        count[top:bottom, left:right] += 1
    tensors = [torch.from_numpy(scores) for scores in windows]
    canvas = stitched(tensors, boxes, image_hw)
    np.testing.assert_allclose(canvas, total / count, atol=1e-5)  # float32, up to nine windows a pixel
    chunks = list(stitch_chunks(tensors, boxes, image_hw, chunk=1))
    assert torch.equal(torch.cat(chunks), canvas)


def test_windows_that_agree_leave_no_seam():
    boxes = window_boxes((9, 14), crop=6, stride=3)
    canvas = stitched([torch.full((1, 3, 3), 0.25)] * len(boxes), boxes, (9, 14))
    assert torch.equal(canvas, torch.full((1, 9, 14), 0.25))


def test_half_precision_windows_make_a_float32_canvas_and_are_left_alone():
    scores = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(9)).bfloat16().requires_grad_()
    before = scores.detach().clone()
    canvas = stitched([scores], [(0, 0, 6, 6)], (6, 6))
    assert canvas.dtype == torch.float32
    assert not canvas.requires_grad
    assert torch.equal(scores, before)


def test_chunks_are_computed_one_at_a_time_and_the_last_holds_the_rest():
    scores = torch.rand(5, 2, 2, generator=torch.Generator().manual_seed(10))
    chunks = stitch_chunks([scores], [(0, 0, 4, 4)], (4, 4), chunk=2)
    assert iter(chunks) is chunks
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]


@pytest.mark.parametrize(
    ("shapes", "boxes", "canvas_hw", "error", "message"),
    [
        ([], [], (4, 4), ShapeError, "window_scores: expected the scores of at least one window"),
        ([(1, 2, 2)], [], (4, 4), OptionError, "boxes: expected one per window, 1, got 0"),
        ([(1, 2, 2), (2, 2, 2)], [(0, 0, 4, 4)] * 2, (4, 4), ShapeError, r"\(1, Gh, Gw\).*same prompts"),
        ([(0, 2, 2)], [(0, 0, 4, 4)], (4, 4), ShapeError, "at least one prompt"),
        ([(2, 2)], [(0, 0, 4, 4)], (4, 4), ShapeError, "window_scores"),
        ([(1, 2, 2)], [(0, 0, 5, 4)], (4, 4), ShapeError, "4 pixels wide and 4 high"),
        ([(1, 2, 2)], [(0, 0, 4, 3)], (4, 4), OptionError, "every pixel covered, got no window over row 3, column 0"),
        ([(1, 2, 2)], [(0, 0, 4, 3)], (4, 0), OptionError, "canvas_hw"),
    ],
)
def test_windows_that_do_not_make_a_canvas_are_refused_at_once(shapes, boxes, canvas_hw, error, message):
    with pytest.raises(error, match=message):
        stitch_chunks([torch.zeros(shape) for shape in shapes], boxes, canvas_hw)


def test_a_chunk_holds_at_least_one_prompt():
    with pytest.raises(OptionError, match="chunk: expected a whole number"):
        stitch_chunks([torch.zeros(1, 1, 1)], [(0, 0, 1, 1)], (1, 1), chunk=0)
