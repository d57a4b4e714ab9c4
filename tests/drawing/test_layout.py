import numpy as np
import pytest
from sheets import LONG, assert_white_border, find, noise
from skimage.data import astronaut, chelsea, coffee

from fgseg.drawing import layout
from fgseg.drawing.layout import grid
from fgseg.errors import OptionError, ShapeError


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
    assert layout._columns_near_4_3(count, 100, 100) == columns


def test_a_grid_that_is_too_large_is_reduced_by_one_factor():
    sheet = grid([("a", astronaut()), ("b", chelsea()), ("c", coffee())], columns=3, max_side=300)
    # 3 cells of the widest picture, 600 px, reduced to 100 px; titles widen a cell to 14 font sizes.
    assert 300 <= sheet.shape[1] <= 3 * (14 * 13 + 13)
    assert sheet.shape[0] < 200


def test_a_grid_may_have_one_column_or_more_columns_than_panels():
    panels = [("a", noise(5, 50, 1)), ("b", noise(5, 50, 2))]
    assert grid(panels, columns=1).shape[0] > grid(panels, columns=9).shape[0]


def test_wrong_arguments_are_refused_by_name():
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(OptionError, match="panels: expected at least one"):
        grid([])
    with pytest.raises(ShapeError, match="panels: expected an RGB image"):
        grid([("a", image[..., 0])])
    with pytest.raises(OptionError, match="columns: expected a whole number from 1"):
        grid([("a", image)], columns=0)
    with pytest.raises(OptionError, match="max_side: expected a number from 1"):
        grid([("a", image)], max_side=0)


def test_arguments_are_left_unchanged():
    image = noise(6, 6, 1)
    before = image.copy()
    image.setflags(write=False)
    grid([("a", image)])
    np.testing.assert_array_equal(image, before)
