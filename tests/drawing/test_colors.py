import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from skimage.color import deltaE_ciede2000, rgb2lab

from fgseg.drawing.colors import (
    APART,
    COLORMAPS,
    check_colors,
    class_colors,
    colorize,
    distinct_colors,
    palette,
    to_uint8,
    word_color,
)
from fgseg.errors import OptionError, ShapeError
from fgseg.prompts.classes import PromptClass, parse_classes
from fgseg.scenes.vocabulary import BASIC_COLORS, NAMED_RGB, lab


@given(st.integers(0, 3000), st.integers(0, 3000))
@settings(deadline=None, max_examples=30)
def test_a_shorter_palette_is_the_beginning_of_a_longer_one(first, second):
    short, long = sorted((first, second))
    assert palette(short) == palette(long)[:short]
    assert len(set(palette(long))) == long


def test_the_palette_skips_colors_that_it_already_holds(monkeypatch):
    from fgseg.drawing import colors

    first = colors._oklab_sequence(0, 10)
    repeated = [*first[:3], *first[:7]]
    monkeypatch.setattr(colors, "_oklab_sequence", lambda start, count: repeated[start : start + count])
    assert colors.palette.__wrapped__(71)[64:] == tuple(first[:7])


def test_no_color_is_close_to_black_or_white_and_the_first_20_are_far_apart():
    lab = rgb2lab(np.array(palette(2000), np.float64)[None] / 255)[0]
    assert lab[:, 0].min() > 25
    distance_to_white = np.linalg.norm(lab - [100, 0, 0], axis=1)
    assert distance_to_white.min() > 20
    first = lab[:20]
    apart = np.linalg.norm(first[:, None] - first[None], axis=2) + 1000 * np.eye(20)
    assert apart.min() > 15


def test_the_first_64_colors_can_be_told_apart():
    lab = rgb2lab(np.array(palette(64), np.float64)[None] / 255)[0]
    apart = deltaE_ciede2000(lab[:, None], lab[None]) + 1000 * np.eye(64)
    assert apart.min() > 12


def test_bytes_are_rounded_not_truncated():
    # 0.998 * 255 = 254.49, 0.9981 * 255 = 254.52
    assert to_uint8(np.array([0.998, 0.9981, 1.0, 0.0])).tolist() == [254, 255, 255, 0]
    assert to_uint8(np.array([[1.0]], np.float16)).tolist() == [[255]]
    assert to_uint8(np.array([-5e-7, 1 + 5e-7])).tolist() == [0, 255]
    assert to_uint8(np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("bad", [1.004, -0.01, np.nan, np.inf])
def test_numbers_outside_the_range_are_refused(bad):
    with pytest.raises(ShapeError, match=r"values: expected values in \[0, 1\], got .* to .*; give presence"):
        to_uint8(np.array([0.5, bad]))


def test_only_floating_point_arrays_become_bytes():
    with pytest.raises(ShapeError, match=r"values: expected a floating point array .*int64"):
        to_uint8(np.array([0, 1]))
    with pytest.raises(ShapeError, match=r"values: expected a floating point array .*list"):
        to_uint8([0.5])


def test_the_same_score_has_the_same_color_in_every_map():
    faint, strong = np.array([[0.1, 0.2]]), np.array([[0.2, 1.0]])
    assert (colorize(faint)[0, 1] == colorize(strong)[0, 0]).all()
    assert (colorize(faint) != colorize(np.array([[0.0, 1.0]]))).any(axis=2).all()


@pytest.mark.parametrize("colormap", COLORMAPS)
def test_every_colormap_draws_0_and_1_in_different_colors(colormap):
    low, high = colorize(np.array([[0.0, 1.0]]), colormap=colormap)[0].astype(int)
    assert abs(low - high).sum() > 100


def test_wrong_maps_and_colors_are_refused():
    with pytest.raises(ShapeError, match=r"score_map: expected an array of shape \(H, W\)"):
        colorize(np.zeros((2, 2, 1)))
    with pytest.raises(OptionError, match=r"colormap: expected one of cool.*'jet'"):
        colorize(np.zeros((2, 2)), colormap="jet")
    with pytest.raises(OptionError, match="count: expected a number from 0"):
        palette(-1)
    with pytest.raises(OptionError, match=r"colors: expected one color per class, 2, got 1; palette\(2\)"):
        check_colors([(0, 0, 0)], 2)
    for bad in [(0, 0), (0, 0, 256), (0, 0, 0.5)]:
        with pytest.raises(OptionError, match=r"colors: expected \(red, green, blue\), whole numbers"):
            check_colors([bad], 1)


def test_importing_the_drawing_modules_loads_no_pyplot():
    code = "import sys, fgseg.drawing.sheet; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def colors_of(*words):
    return class_colors(parse_classes(words))


def test_a_class_named_by_a_color_word_wears_that_color():
    assert colors_of("red", "Dark  Green", "blue-green", "GRAY", "black") == (
        (229, 0, 0), (3, 53, 0), (19, 126, 109), (146, 149, 145), (0, 0, 0),
    )  # fmt: skip


def test_a_synonym_names_the_color_if_the_name_does_not_and_the_name_comes_first():
    assert colors_of("fur, cream, orange") == (word_color("cream"),)
    assert colors_of("brown, tan") == (word_color("brown"),)
    assert colors_of("grass", "red cup") == palette(2)  # a material and a thing


def test_a_color_of_a_class_file_comes_before_its_color_word_and_is_kept_apart_from():
    own = PromptClass("red", ("red",), color=(38, 250, 198))
    colors = class_colors([own, *parse_classes(["cat", "dog"])])
    assert colors == ((38, 250, 198), *palette(5)[1::3][:2])  # without the first, which is next to that of the file


@given(st.lists(st.sampled_from(["red", "blue", "teal", "cat", "dog", "tree", "car", "bus"]), unique=True, min_size=1))
@settings(deadline=None, max_examples=60)
def test_a_class_at_the_end_recolors_none_and_no_palette_color_is_close_to_a_color_before_it(words):
    colors = colors_of(*words)
    assert colors[:-1] == (colors_of(*words[:-1]) if words[1:] else ())
    at = lab(np.array(colors) / 255)
    for index, word in enumerate(words):
        worn = [at[other] for other in range(index) if word_color(words[other])]
        if not word_color(word) and worn:
            assert np.linalg.norm(np.array(worn) - at[index], axis=1).min() >= APART


def test_colors_of_classes_without_color_words_stay_apart_from_the_basic_words_as_long_as_there_are_enough():
    at, basic = lab(np.array(distinct_colors([None] * 40)) / 255), lab(np.array([NAMED_RGB[w] for w in BASIC_COLORS]))
    assert np.linalg.norm(at[:, None] - basic, axis=2).min() >= APART
    assert sorted(distinct_colors([None] * 64)) == sorted(palette(64))
    assert len(set(distinct_colors([(9, 9, 9), *[None] * 2000]))) == 2001


def test_if_no_color_is_far_from_those_taken_the_farthest_is_worn():
    crowd = [tuple(color) for color in np.indices((9, 9, 9)).reshape(3, -1).T.tolist()]
    crowd = [tuple(31 * level for level in color) for color in crowd]
    last = distinct_colors([*crowd, None])[-1]
    assert last not in crowd
