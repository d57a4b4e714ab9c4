import cv2
import numpy as np
import pytest

from fgseg.drawing.colors import palette
from fgseg.drawing.legend import LINE_IN_FONTS, legend_panel, with_legend
from fgseg.drawing.text import font_size_within, line_height, text_block
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
    (3000, 4000),
    (8000, 64),
    (100, 20_000),
    (300_000, 400),
]


def many_names(count):
    return [f"{PHRASES[index % len(PHRASES)]} {index}" for index in range(count)]


def places_of(names, panel, font_size):
    """(x, y) of the text of each name on a legend."""
    texts = [text_block(name, font_size, LINE_IN_FONTS * font_size) for name in names]
    return [cv2.minMaxLoc(cv2.matchTemplate(panel, text, cv2.TM_SQDIFF))[2] for text in texts]


@pytest.mark.parametrize("image_hw", SIZES)
@pytest.mark.parametrize("count", [1, 2, 5, 12, 40])
def test_no_label_is_cut_or_overlaps_at_any_size(image_hw, count):
    names, font_size = many_names(count), font_size_within(image_hw)
    panel, _ = legend_panel(image_hw, names, palette(count))
    texts = [text_block(name, font_size, LINE_IN_FONTS * font_size) for name in names]
    is_inked = (panel < 255).any(2)
    assert is_inked.sum() == sum((text < 255).any(2).sum() for text in texts) + count * font_size**2
    assert not is_inked[:4].any()
    assert not is_inked[-4:].any()
    assert not is_inked[:, :4].any()
    assert not is_inked[:, -4:].any()


@pytest.mark.parametrize(("image_hw", "axis"), [((50, 4000), 0), ((4000, 50), 1), ((480, 640), 0)])
def test_a_legend_lies_along_the_longer_side(image_hw, axis):
    assert legend_panel(image_hw, many_names(5), palette(5))[1] == axis


@pytest.mark.parametrize("image_hw", [(100, 20_000), (100, 100_000), (400, 6000), (400, 300_000)])
def test_a_legend_is_no_higher_than_its_panorama(image_hw):
    panel, axis = legend_panel(image_hw, ["sky", "old town houses", "river with boats"], palette(3))
    assert axis == 0
    assert panel.shape[0] <= image_hw[0]
    assert panel.shape[1] <= image_hw[1]


def test_the_picture_of_a_panorama_with_its_legend_stays_a_panorama():
    canvas = with_legend(np.zeros((100, 20_000, 3), np.uint8), ["sky", "river"], palette(2))
    assert canvas.shape[0] <= 200


def test_names_keep_their_order_from_column_to_column():
    panel, _ = legend_panel((480, 640), many_names(12), palette(12))
    corners = places_of(many_names(12), panel, 13)
    assert corners == sorted(corners)
    assert len({x for x, _ in corners}) > 1


def test_the_picture_is_unchanged_in_the_top_left_corner():
    image = np.random.RandomState(7).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    before = image.copy()
    canvas = with_legend(image, many_names(12), palette(12))
    np.testing.assert_array_equal(canvas[:64, :64], image)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(("image_hw", "corner_yx"), [((64, 640), (64, 0)), ((640, 64), (0, 64))])
def test_the_legend_stands_below_or_beside_the_picture(image_hw, corner_yx):
    names, colors = many_names(5), palette(5)
    canvas = with_legend(np.zeros((*image_hw, 3), np.uint8), names, colors)
    panel, _ = legend_panel(image_hw, names, colors)
    y, x = corner_yx
    np.testing.assert_array_equal(canvas[y : y + panel.shape[0], x : x + panel.shape[1]], panel)


def test_a_swatch_of_its_color_stands_before_each_name():
    names, colors = many_names(12), palette(12)
    panel, _ = legend_panel((64, 64), names, colors)
    for (x, y), color in zip(places_of(names, panel, 13), colors, strict=True):
        swatch = panel[y + (line_height(13) - 13) // 2 :, x - 6 - 13 :][:13, :13]
        assert (swatch[1:-1, 1:-1] == color).all()
        assert (swatch[[0, -1]] == 96).all()
        assert (swatch[:, [0, -1]] == 96).all()


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
