import numpy as np
import pytest
from skimage.data import astronaut, chelsea, coffee

from fgseg.drawing import layout as render
from fgseg.drawing.colors import colorize
from fgseg.drawing.layout import color_bar, grid, heatmap_beside
from fgseg.drawing.overlay import overlay_heatmap
from fgseg.drawing.text import font_size_for
from fgseg.errors import OptionError, ShapeError

LONG = "a very long prompt that describes a wooden table with a red saucer and a spoon on it"


def find(sheet, picture):
    """Every (row, column) at which the sheet holds the picture."""
    height, width = picture.shape[:2]
    corners = sheet[: sheet.shape[0] - height + 1, : sheet.shape[1] - width + 1] == picture[0, 0]
    return [
        (int(top), int(left))
        for top, left in np.argwhere(corners.all(axis=2))
        if (sheet[top : top + height, left : left + width] == picture).all()
    ]


def assert_white_border(sheet):
    for edge in (sheet[0], sheet[-1], sheet[:, 0], sheet[:, -1]):
        assert (edge == 255).all()


def noise(height, width, seed):
    return np.random.RandomState(seed).randint(0, 200, (height, width, 3)).astype(np.uint8)


def test_photograph_and_heatmap_stand_side_by_side_below_the_title():
    image, scores = noise(40, 60, 3), np.random.RandomState(4).rand(40, 60)
    sheet = heatmap_beside(image, scores, LONG)
    (first,), (second,) = find(sheet, image), find(sheet, overlay_heatmap(image, scores))
    assert first[0] == second[0]
    assert second[1] == first[1] + 60 + font_size_for((40, 60)) // 2
    assert (sheet[: first[0]] < 100).any()
    assert_white_border(sheet)


@pytest.mark.parametrize("image_hw", [(64, 64), (20, 300), (300, 20), (3, 3)])
@pytest.mark.parametrize("title", ["", "cup", LONG, "红" * 60])
def test_a_heatmap_sheet_of_any_shape_ends_in_white_on_all_sides(image_hw, title):
    assert_white_border(heatmap_beside(noise(*image_hw, 5), np.ones(image_hw), title))


def test_a_panorama_stands_above_its_heatmap():
    image, scores = noise(10, 100, 3), np.ones((10, 100))
    sheet = heatmap_beside(image, scores, "cup")
    (first,), (second,) = find(sheet, image), find(sheet, overlay_heatmap(image, scores))
    assert first[1] == second[1]
    assert first[0] < second[0]


def test_the_color_bar_runs_from_1_at_the_top_to_0_and_has_three_ticks():
    bar = color_bar(height=300, font_size=20)
    assert bar.shape[0] == 300
    colored = np.flatnonzero((bar[:, 0] != 255).any(axis=1) & ((bar[:, 0] != bar[:, 0, :1]).any(axis=1)))
    ramp = bar[colored[-1] - 200 : colored[-1] + 1, 5]
    np.testing.assert_array_equal(ramp[-1], colorize(np.zeros((1, 1)))[0, 0])
    np.testing.assert_array_equal(bar[colored[0] + 1, 5] > 200, [True, True, False])
    # Rows of ink right of the ramp: the word "presence", then the ticks.
    inked = (bar[:, 25:] < 100).all(axis=2).any(axis=1)
    assert np.count_nonzero(np.diff(inked.astype(int)) == 1) == 4
    assert color_bar(height=1, font_size=20).shape[0] > 100


def test_a_grid_holds_every_picture_once_in_reading_order():
    pictures = [noise(30, 40, seed) for seed in range(5)]
    sheet = grid([(f"{index} {LONG}", picture) for index, picture in enumerate(pictures)], columns=2)
    places = [place for picture in pictures for place in find(sheet, picture)]
    assert len(places) == 5
    assert places == sorted(places)
    tops = [top for top, _ in places]
    assert tops[0] == tops[1] < tops[2] == tops[3] < tops[4]
    assert_white_border(sheet)


def test_titles_lie_between_the_pictures_and_do_not_touch_their_neighbours():
    black = np.zeros((20, 20, 3), np.uint8)
    with_titles = grid([("m" * 50, black)] * 4, columns=4)
    (top, left), *others = find(with_titles, black)
    step = others[0][1] - left
    # A cell is 14 font sizes wide where its picture is smaller, and half a font size from the next.
    assert step == 14 * 13 + 6
    above = (with_titles[:top] < 255).any(axis=(0, 2))
    for column in range(1, 4):
        # The gap before every cell is white: the title before it ended.
        assert not above[left + column * step - 6 : left + column * step].any()


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (4, 2), (12, 4), (20, 5)])
def test_columns_bring_square_pictures_close_to_4_by_3(count, columns):
    assert render._columns_near_4_3(count, 100, 100) == columns


def test_a_grid_too_large_is_reduced_by_one_factor():
    sheet = grid([("a", astronaut()), ("b", chelsea()), ("c", coffee())], columns=3, max_side=300)
    # 3 cells of the widest picture, 600 px, reduced to 100 px; titles widen a cell to 14 font sizes.
    assert 300 <= sheet.shape[1] <= 3 * (14 * 13 + 13)
    assert sheet.shape[0] < 200


def test_one_wide_picture_a_row_is_allowed_and_more_columns_than_panels_too():
    panels = [("a", noise(5, 50, 1)), ("b", noise(5, 50, 2))]
    assert grid(panels, columns=1).shape[0] > grid(panels, columns=9).shape[0]


def test_wrong_arguments_are_refused_by_name():
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(OptionError, match="panels: expected at least one"):
        grid([])
    with pytest.raises(ShapeError, match="panels: expected an RGB image"):
        grid([("a", image[..., 0])])
    with pytest.raises(OptionError, match="columns: expected a number from 1"):
        grid([("a", image)], columns=0)
    with pytest.raises(OptionError, match="max_side: expected a number from 1"):
        grid([("a", image)], max_side=0)
    with pytest.raises(ShapeError, match="score_map: expected an array"):
        heatmap_beside(image, np.zeros((3, 4)), "a")
    with pytest.raises(OptionError, match="colormap: expected one of"):
        color_bar(height=10, font_size=13, colormap="jet")


def test_arguments_are_left_as_they_were():
    image, scores = noise(6, 6, 1), np.full((6, 6), 0.5)
    before = image.copy(), scores.copy()
    for array in (image, scores):
        array.setflags(write=False)
    heatmap_beside(image, scores, "a")
    grid([("a", image)])
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(scores, before[1])
