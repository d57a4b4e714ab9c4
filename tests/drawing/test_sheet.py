from functools import partial

import numpy as np
import pytest
from sheets import LONG, assert_white_border, find, noise

from fgseg.drawing.colors import colorize
from fgseg.drawing.overlay import overlay_heatmap
from fgseg.drawing.sheet import SMALLEST_PANEL, _color_bar, heatmap_sheet
from fgseg.drawing.text import font_size_for, line_height
from fgseg.errors import OptionError, ShapeError
from fgseg.images.reading import read_image
from fgseg.scenes.composition import scene
from fgseg.segmentation.heatmaps import NOTEBOOK_SIDE, Heatmaps

IMAGE = np.full((12, 16, 3), (10, 90, 200), np.uint8)  # not a grey of the letters
SCORES = np.linspace(0, 1, 12 * 16, dtype=np.float32).reshape(12, 16)


def maps_of(image, count):
    blank = np.zeros(image.shape[:2], np.float32)
    return Heatmaps(image, [f"prompt {index}" for index in range(count)], lambda index: blank, grid_hw=(1, 1))


def test_an_image_and_its_heatmap_are_side_by_side_below_the_title():
    image, scores = noise(40, 60, 3), np.random.RandomState(4).rand(40, 60)
    sheet = heatmap_sheet(image, {LONG: scores})
    (first,), (second,) = find(sheet, image), find(sheet, overlay_heatmap(image, scores))
    assert first[0] == second[0]
    assert second[1] == first[1] + 60 + font_size_for((40, 60)) // 2
    assert (sheet[: first[0]] < 100).any()
    assert_white_border(sheet)


@pytest.mark.parametrize("image_hw", [(64, 64), (20, 300), (300, 20), (3, 3)])
@pytest.mark.parametrize("title", ["", "cup", LONG, "红" * 60])
def test_a_heatmap_sheet_of_any_shape_ends_in_white_on_all_sides(image_hw, title):
    assert_white_border(heatmap_sheet(noise(*image_hw, 5), {title: np.ones(image_hw)}))


def test_a_panorama_is_above_its_heatmap():
    image, scores = noise(10, 100, 3), np.ones((10, 100))
    sheet = heatmap_sheet(image, {"cup": scores})
    (first,), (second,) = find(sheet, image), find(sheet, overlay_heatmap(image, scores))
    assert first[1] == second[1]
    assert first[0] < second[0]


def test_the_color_bar_runs_from_1_at_the_top_to_0_and_has_three_ticks():
    bar = _color_bar(300, 20, partial(overlay_heatmap, opacity=0.8))
    assert bar.shape[0] == 300
    ramp = bar[line_height(20) + line_height(20) // 2 :, 5][: 300 - 2 * line_height(20)]
    over_grey = overlay_heatmap(np.full((len(ramp), 1, 3), 128, np.uint8), np.linspace(1, 0, len(ramp))[:, None])
    np.testing.assert_array_equal(ramp, over_grey[:, 0])
    # Rows of ink right of the ramp: the word "presence", then the ticks.
    inked = (bar[:, 25:] < 100).all(axis=2).any(axis=1)
    assert np.count_nonzero(np.diff(inked.astype(int)) == 1) == 4
    assert _color_bar(1, 20, overlay_heatmap).shape[0] > 100


def test_options_apply_to_every_map_of_a_sheet_and_to_its_bar():
    maps = {"red": np.ones((12, 16), np.float32), "blue": np.ones((12, 16), np.float32)}
    clear = heatmap_sheet(IMAGE, maps, opacity=0)
    assert (clear == IMAGE[0, 0]).all(-1).sum() == 12 * 16
    assert (clear == overlay_heatmap(IMAGE, np.zeros((12, 16)))[0, 0]).all(-1).sum() == 2 * 12 * 16
    assert (heatmap_sheet(IMAGE, maps, opacity=0, base="photo") == IMAGE[0, 0]).all(-1).sum() == 3 * 12 * 16
    other = heatmap_sheet(IMAGE, maps, opacity=1, colormap="magma")
    hottest, hottest_by_default = (colorize(np.ones((1, 1)), colormap=name)[0, 0] for name in ("magma", "cool"))
    assert (other == hottest).all(-1).sum() > 2 * 12 * 16  # both maps, and the top of the bar
    assert not (other == hottest_by_default).all(-1).any()


@pytest.mark.parametrize(("image_hw", "count"), [((2000, 3000), 1), ((700, 900), 2), ((2000, 3000), 8)])
def test_heatmaps_in_a_notebook_are_about_as_large_as_it_shows_them(image_hw, count, tmp_path):
    image = np.zeros((*image_hw, 3), np.uint8)
    (tmp_path / "cell.png").write_bytes(maps_of(image, count)._repr_png_())
    assert max(read_image(tmp_path / "cell.png").shape) < 1.25 * NOTEBOOK_SIDE  # titles, gaps and the bar on top


def test_panels_stay_large_enough_to_see_for_any_number_of_maps():
    image = np.zeros((300, 300, 3), np.uint8)
    sheet = heatmap_sheet(image, maps_of(image, 24), max_side=100)
    assert min(sheet.shape[:2]) > 5 * SMALLEST_PANEL


def test_every_map_is_read_once_and_one_at_a_time():
    read = []
    maps = Heatmaps(IMAGE, ["red", "blue"], lambda index: read.append(index) or SCORES.copy(), grid_hw=(1, 1))
    heatmap_sheet(IMAGE, maps)
    assert read == [0, 1]


def test_heatmaps_of_a_segmenter_and_scores_of_a_result_draw_themselves(tiny_model):
    import fgseg

    seg = fgseg.load(tiny_model, dtype="float32", device="cpu")
    image = scene(5, (48, 64)).image
    maps = seg.heatmaps(image, ["red", "blue"])
    assert maps._repr_png_()[1:4] == b"PNG"
    assert repr(maps) == "Heatmaps(['red', 'blue'])"
    np.testing.assert_array_equal(maps.image, image)
    assert seg.segment(image, ["red", "blue"]).scores._repr_png_() == maps._repr_png_()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: Heatmaps(SCORES, ["red"], lambda index: SCORES, grid_hw=(1, 1)),
            ShapeError,
            "image: expected an RGB image",
        ),
        (
            lambda: Heatmaps(IMAGE, ["red", "red"], lambda index: SCORES, grid_hw=(1, 1)),
            OptionError,
            "names: expected unique",
        ),
        (lambda: heatmap_sheet(SCORES, {"red": SCORES}), ShapeError, "image: expected an RGB image"),
        (lambda: heatmap_sheet(IMAGE, {}), OptionError, "maps: expected at least one prompt"),
        (
            lambda: heatmap_sheet(IMAGE, {"red": SCORES.T}),
            ShapeError,
            r"maps: expected .* \(12, 16\), got .*\(16, 12\)",
        ),
        (lambda: heatmap_sheet(IMAGE, {"red": SCORES}, opacity=2), OptionError, "opacity: expected a number"),
        (lambda: heatmap_sheet(IMAGE, {"red": SCORES}, colormap="jet"), OptionError, "colormap: expected one of"),
    ],
)
def test_wrong_arguments_are_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_arguments_are_left_unchanged():
    image, scores = noise(6, 6, 1), np.full((6, 6), 0.5)
    before = image.copy(), scores.copy()
    for array in (image, scores):
        array.setflags(write=False)
    heatmap_sheet(image, {"a": scores})
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(scores, before[1])
