from itertools import combinations

import numpy as np
import pytest

from fgseg.drawing.colors import palette
from fgseg.drawing.legend import legend_layout, with_legend
from fgseg.drawing.text import line_height, wrap_text
from fgseg.errors import OptionError, ShapeError

PHRASES = [
    "red",
    "a very long prompt that describes a wooden table with a red saucer and a spoon on it",
    "Supercalifragilisticexpialidocious-and-some-more-letters-without-a-single-space",
    "红色的圆",
    "dog",
]
SIZES = [
    (64, 64),
    (48, 640),
    (480, 640),
    (640, 480),
    (50, 4000),
    (4000, 50),
    (2000, 3000),
    (6000, 8000),
    (8000, 64),
    (100, 20_000),
    (300_000, 400),
]


def many_names(count):
    return [f"{PHRASES[index % len(PHRASES)]} {index}" for index in range(count)]


def overlap(first, second):
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


@pytest.mark.parametrize("image_hw", SIZES)
@pytest.mark.parametrize("count", [1, 2, 5, 12, 40])
def test_no_label_is_cut_or_overlaps_at_any_size(image_hw, count):
    layout = legend_layout(image_hw, many_names(count))
    left, top, right, bottom = layout.panel_xyxy
    height, width = layout.canvas_hw
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert not overlap(layout.panel_xyxy, (0, 0, image_hw[1], image_hw[0]))
    boxes = [box for row in layout.rows for box in (row.swatch_xyxy, row.text_xyxy)]
    assert len(boxes) == 2 * count
    for box in boxes:
        assert left < box[0] < box[2] < right
        assert top < box[1] < box[3] < bottom
    assert not any(overlap(*pair) for pair in combinations(boxes, 2))
    assert layout.font_size >= 13


@pytest.mark.parametrize(("image_hw", "side"), [((50, 4000), "below"), ((4000, 50), "beside"), ((480, 640), "below")])
def test_a_legend_lies_along_the_longer_side(image_hw, side):
    layout = legend_layout(image_hw, many_names(5))
    height, width = image_hw
    assert layout.panel_xyxy[:2] == ((0, height) if side == "below" else (width, 0))


@pytest.mark.parametrize("image_hw", [(100, 20_000), (100, 100_000), (400, 6000), (400, 300_000)])
def test_a_legend_is_no_higher_than_its_panorama(image_hw):
    names = ["sky", "old town houses", "river with boats"]
    height, width = legend_layout(image_hw, names).canvas_hw
    assert height <= 2 * image_hw[0]
    assert width == image_hw[1]


def test_the_picture_of_a_panorama_with_its_legend_stays_a_panorama():
    canvas = with_legend(np.zeros((100, 20_000, 3), np.uint8), ["sky", "river"], palette(2))
    assert canvas.shape[0] <= 200


def test_names_keep_their_order_from_column_to_column():
    rows = legend_layout((480, 640), many_names(12)).rows
    assert [row.name for row in rows] == many_names(12)
    corners = [row.text_xyxy[:2] for row in rows]
    assert corners == sorted(corners)


def test_the_picture_is_unchanged_in_the_top_left_corner():
    image = np.random.RandomState(7).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    before = image.copy()
    canvas = with_legend(image, many_names(12), palette(12))
    np.testing.assert_array_equal(canvas[:64, :64], image)
    np.testing.assert_array_equal(image, before)
    assert canvas.shape[:2] == legend_layout((64, 64), many_names(12)).canvas_hw


def test_every_swatch_has_its_color_and_every_text_box_its_ink():
    names, colors = many_names(12), palette(12)
    canvas = with_legend(np.zeros((64, 64, 3), np.uint8), names, colors)
    layout = legend_layout((64, 64), names)
    for row, color in zip(layout.rows, colors, strict=True):
        left, top, right, bottom = row.swatch_xyxy
        assert tuple(canvas[(top + bottom) // 2, (left + right) // 2]) == color
        left, top, right, bottom = row.text_xyxy
        assert bottom - top == len(wrap_text(row.name, 13, 260)) * line_height(13)
        assert (canvas[top:bottom, left:right] < 100).any()
        canvas[top:bottom, left:right] = 255
        left, top, right, bottom = row.swatch_xyxy
        canvas[top:bottom, left:right] = 255
    left, top, right, bottom = layout.panel_xyxy
    # Nothing is drawn outside the boxes.
    assert (canvas[top:bottom, left:right] == 255).all()


def test_without_names_the_picture_is_copied():
    image = np.zeros((4, 5, 3), np.uint8)
    canvas = with_legend(image, [], [])
    np.testing.assert_array_equal(canvas, image)
    assert not np.shares_memory(canvas, image)


def test_wrong_arguments_are_refused_by_name():
    image = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(ShapeError, match="image: expected an RGB image"):
        with_legend(image[..., 0], ["red"], palette(1))
    with pytest.raises(OptionError, match="colors: expected one color per class, 1, got 2"):
        with_legend(image, ["red"], palette(2))
    with pytest.raises(OptionError, match=r"colors: expected .red"):
        with_legend(image, ["red"], [(1, 2, 300)])
