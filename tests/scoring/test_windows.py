import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from fgseg.errors import OptionError, ShapeError
from fgseg.images.resizing import resize_image
from fgseg.scoring.resolution import Resolution, parse_resolution, short_side_hw, whole_image
from fgseg.scoring.windows import crops, stitch_chunks, window_boxes

SEEDS = st.integers(0, 2**32 - 1)


def noise(seed, height, width):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


# Resolution


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("squash", Resolution("squash")),
        ("squash:336", Resolution("squash", 336)),
        ("keep:448", Resolution("keep", 448)),
        ("slide", Resolution("slide")),
        ("slide:448", Resolution("slide", 448)),
        ("slide:448/224/112", Resolution("slide", 448, 224, 112)),
        ("slide:auto/224/112", Resolution("slide", None, 224, 112)),
        ("slide:448/auto/112", Resolution("slide", 448, None, 112)),
    ],
)
def test_a_resolution_is_read_as_the_command_line_spells_it_and_written_the_same(text, expected):
    assert parse_resolution(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    ["", "slid", "slide:", "slide:448/224", "keep:448/224/112", "squash:-3", "slide:1/2/3/4", "keep:٣", "keep: 448"],
)
def test_another_spelling_is_refused_with_an_example(text):
    with pytest.raises(OptionError, match=r"resolution: expected a mode and sizes.*slide:336/224/112"):
        parse_resolution(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "stretch"}, "mode: expected one of squash, keep, slide"),
        ({"mode": "keep", "short_side": 0}, "short_side: expected a whole number"),
        ({"mode": "keep", "short_side": 4.5}, "short_side: expected a whole number"),
        ({"mode": "keep", "crop": 224}, 'crop: expected windows only with mode "slide"'),
        ({"mode": "squash", "stride": 2}, 'crop: expected windows only with mode "slide"'),
        ({"mode": "slide", "crop": 4, "stride": 5}, "stride: expected at most the crop, 4, got 5; .*gaps"),
        ({"mode": "keep", "short_side": 500, "max_side": 400}, "short_side: expected at most max_side 400"),
    ],
)
def test_a_resolution_that_cannot_be_followed_is_refused(arguments, message):
    with pytest.raises(OptionError, match=message):
        Resolution(**arguments)


def test_a_square_has_no_long_side_that_could_be_too_long():
    assert Resolution("squash", 2240).short_side == 2240


def test_sizes_left_open_become_the_encoders_and_for_224_those_of_sclip_and_naclip():
    assert Resolution("slide").resolved(224) == Resolution("slide", 336, 224, 112)
    assert Resolution("slide", 448, 100).resolved(224) == Resolution("slide", 448, 100, 50)
    assert Resolution("slide", crop=1).resolved(224) == Resolution("slide", 1, 1, 1)
    assert Resolution("keep").resolved(224) == Resolution("keep", 224)
    assert Resolution("squash", 336).resolved(224) == Resolution("squash", 336)
    assert Resolution("keep", max_side=100).resolved(224) == Resolution("keep", 100, max_side=100)
    assert Resolution("slide", max_side=256).resolved(224) == Resolution("slide", 256, 224, 112, max_side=256)
    assert Resolution("squash", max_side=100).resolved(224) == Resolution("squash", 224, max_side=100)
    with pytest.raises(OptionError, match="native: expected a whole number"):
        Resolution("keep").resolved(0)
    with pytest.raises(OptionError, match="max_side: expected a whole number"):
        Resolution("keep", max_side=None)


# sizes


@pytest.mark.parametrize(
    ("image_hw", "short_side", "expected"),
    [
        ((375, 500), 336, (336, 448)),
        ((500, 375), 336, (448, 336)),
        ((333, 500), 336, (336, 505)),  # 504.50...: half up
        ((1024, 2048), 560, (560, 1120)),
        ((100, 1000), 336, (205, 2048)),  # the long side would pass 2048; 204.8
        ((1, 4000), 336, (1, 2048)),  # 0.512 rounds to 1
        ((1, 9000), 336, (1, 2048)),  # 0.227 rounds to 0, and a side is at least 1
        ((16, 16), 336, (336, 336)),
    ],
)
def test_sizes_are_those_of_the_protocol(image_hw, short_side, expected):
    assert short_side_hw(image_hw, short_side) == expected


@given(image_hw=st.tuples(st.integers(1, 5000), st.integers(1, 5000)), short_side=st.integers(1, 600))
@settings(deadline=None, max_examples=60)
def test_one_side_is_met_and_turning_the_image_turns_the_size(image_hw, short_side):
    height, width = short_side_hw(image_hw, short_side, 1000)
    assert min(height, width) == short_side or max(height, width) == 1000
    assert max(height, width) <= 1000
    assert short_side_hw(image_hw[::-1], short_side, 1000) == (width, height)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [(((0, 3), 4), "image_hw"), (((3,), 4), "image_hw"), (((3, 3), 0), "short_side"), (((3, 3), 4, 0), "max_side")],
)
def test_a_side_that_is_no_whole_number_is_refused(arguments, name):
    with pytest.raises(OptionError, match=name):
        short_side_hw(*arguments)


# resize_image


def test_without_antialiasing_a_resize_is_opencvs_bilinear():
    image = noise(1, 31, 47)
    np.testing.assert_array_equal(resize_image(image, (20, 90), antialias=False), cv2.resize(image, (90, 20)))


def test_antialiasing_takes_the_mean_where_it_shrinks_and_bilinear_where_it_grows():
    image = noise(2, 8, 6)
    tiles = image.reshape(2, 4, 2, 3, 3).astype(float).mean((1, 3))
    assert np.abs(resize_image(image, (2, 2), antialias=True) - tiles).max() <= 0.5  # rounding to whole levels
    mixed = resize_image(image, (4, 12), antialias=True)
    columns = image.reshape(4, 2, 6, 3).astype(float).mean(1).astype(np.float32)
    assert np.abs(mixed - cv2.resize(columns, (12, 4))).max() <= 1  # rounded twice
    np.testing.assert_array_equal(resize_image(image, (16, 12), antialias=True), cv2.resize(image, (12, 16)))


@pytest.mark.parametrize("antialias", [False, True])
def test_a_resize_to_the_same_size_is_a_copy(antialias):
    image = noise(3, 5, 4)
    same = resize_image(image, (5, 4), antialias=antialias)
    np.testing.assert_array_equal(same, image)
    assert not np.shares_memory(same, image)


def test_a_view_of_an_image_is_resized_like_the_image():
    image = noise(4, 20, 20)
    flipped = resize_image(image[:, ::-1], (9, 9), antialias=False)
    np.testing.assert_array_equal(flipped, resize_image(image[:, ::-1].copy(), (9, 9), antialias=False))


@pytest.mark.parametrize(
    ("resolution", "whole"),
    [
        ("squash", "squash"),
        ("keep", "keep"),
        ("keep:336", "keep:336"),
        ("slide", "squash"),
        ("slide:448/224/112", "squash"),
    ],
)
def test_a_whole_image_is_squashed_where_windows_would_suit_its_parts(resolution, whole):
    assert whole_image(resolution) == whole


def test_only_rgb_images_and_whole_sizes_are_resized():
    with pytest.raises(ShapeError, match="image: expected an RGB image"):
        resize_image(np.zeros((4, 4), np.uint8), (2, 2), antialias=False)
    with pytest.raises(OptionError, match="image_hw"):
        resize_image(noise(5, 4, 4), (2, 0), antialias=False)


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
def test_windows_are_the_protocols_cover_every_pixel_and_stay_inside(image_hw, crop, stride):
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
    with pytest.raises(OptionError, match=r"boxes: expected .* inside height 5 and width 7"):
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


def test_chunks_are_made_one_at_a_time_and_the_last_is_what_is_left():
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
        ([(1, 2, 2)], [(0, 0, 5, 4)], (4, 4), OptionError, "inside height 4 and width 4"),
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
