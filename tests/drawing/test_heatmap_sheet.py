import numpy as np
import pytest

from fgseg.drawing.colors import colorize
from fgseg.drawing.heatmap_sheet import SMALLEST_PANEL, heatmap_sheet
from fgseg.drawing.layout import heatmap_beside
from fgseg.errors import OptionError, ShapeError
from fgseg.images.reading import read_image
from fgseg.scenes.composition import scene
from fgseg.segmentation.heatmaps import NOTEBOOK_SIDE, Heatmaps

IMAGE = np.full((12, 16, 3), (10, 90, 200), np.uint8)  # no gray of a letter's edge
SCORES = np.linspace(0, 1, 12 * 16, dtype=np.float32).reshape(12, 16)


def maps_of(image, count):
    blank = np.zeros(image.shape[:2], np.float32)
    return Heatmaps(image, [f"prompt {index}" for index in range(count)], lambda index: blank)


def test_one_map_stands_beside_its_image_as_render_draws_it():
    sheet = heatmap_sheet(IMAGE, {"red": SCORES}, opacity=0.4, colormap="magma")
    np.testing.assert_array_equal(sheet, heatmap_beside(IMAGE, SCORES, "red", opacity=0.4, colormap="magma"))


def test_options_reach_every_map_of_a_sheet_and_its_bar():
    maps = {"red": np.ones((12, 16), np.float32), "blue": np.ones((12, 16), np.float32)}
    clear = heatmap_sheet(IMAGE, maps, opacity=0)
    assert (clear == IMAGE[0, 0]).all(-1).sum() == 3 * 12 * 16
    other = heatmap_sheet(IMAGE, maps, opacity=1, colormap="magma")
    hottest, hottest_by_default = (colorize(np.ones((1, 1)), colormap=name)[0, 0] for name in ("magma", "viridis"))
    assert (other == hottest).all(-1).sum() > 2 * 12 * 16  # both maps, and the top of the bar
    assert not (other == hottest_by_default).all(-1).any()


@pytest.mark.parametrize(("image_hw", "count"), [((2000, 3000), 1), ((700, 900), 2), ((2000, 3000), 8)])
def test_maps_draw_themselves_in_a_notebook_about_as_large_as_it_shows_them(image_hw, count, tmp_path):
    image = np.zeros((*image_hw, 3), np.uint8)
    (tmp_path / "cell.png").write_bytes(maps_of(image, count)._repr_png_())
    assert max(read_image(tmp_path / "cell.png").shape) < 1.25 * NOTEBOOK_SIDE  # titles, gaps and the bar on top


def test_panels_stay_large_enough_to_see_however_many_there_are():
    image = np.zeros((300, 300, 3), np.uint8)
    sheet = heatmap_sheet(image, maps_of(image, 24), max_side=100)
    assert min(sheet.shape[:2]) > 5 * SMALLEST_PANEL


def test_a_map_is_asked_for_once_and_one_at_a_time():
    asked = []
    maps = Heatmaps(IMAGE, ["red", "blue"], lambda index: asked.append(index) or SCORES.copy())
    heatmap_sheet(IMAGE, maps)
    assert asked == [0, 1]


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
        (lambda: Heatmaps(SCORES, ["red"], lambda index: SCORES), ShapeError, "image: expected an RGB image"),
        (lambda: Heatmaps(IMAGE, ["red", "red"], lambda index: SCORES), OptionError, "names: expected unique"),
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
