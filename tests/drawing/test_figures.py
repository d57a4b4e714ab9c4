import subprocess
import sys
from io import BytesIO
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fgseg.drawing.colors import palette
from fgseg.drawing.figures import (
    NotebookFigure,
    figure_with_legend,
    show_box_scores,
    show_heatmaps,
    show_masks,
    show_matrix,
)
from fgseg.drawing.legend import with_legend
from fgseg.drawing.overlay import overlay_masks
from fgseg.drawing.sheet import heatmap_sheet
from fgseg.errors import OptionError, ShapeError
from fgseg.types import LazyMaps

IMAGE = np.full((12, 16, 3), 100, np.uint8)
SCORES = np.linspace(0, 1, 12 * 16).reshape(12, 16)
MASK = SCORES > 0.5
LONG = "a very long prompt that describes a wooden table with a red saucer and a spoon on it"


def drawn(figure):
    """The figure's RGB pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def assert_inside(figure, texts):
    """Every text's box lies within the figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= width + 1
        assert box.y1 <= height + 1


def test_figures_draw_themselves_as_png_without_pyplot():
    code = (
        "import sys, numpy as np; from fgseg.drawing import show_matrix;"
        "png = show_matrix(['a'], ['b'], np.array([[0.5]]))._repr_png_();"
        "sys.exit(png[:4] != b'\\x89PNG' or 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_heatmaps_show_the_heatmap_sheet_with_its_options():
    maps = LazyMaps(["red", "$5 bill$"], lambda index: SCORES * index)
    figure = show_heatmaps(IMAGE, maps, opacity=0.4, colormap="magma")
    sheet = heatmap_sheet(IMAGE, maps, opacity=0.4, colormap="magma", columns=4)
    np.testing.assert_array_equal(figure.axes[0].get_images()[0].get_array(), sheet)


def test_a_figure_of_heatmaps_has_as_many_columns_as_requested():
    image, maps = np.zeros((200, 200, 3), np.uint8), {str(index): np.zeros((200, 200)) for index in range(4)}
    wide, narrow = (show_heatmaps(image, maps, columns=count).get_size_inches() for count in (5, 1))
    assert wide[0] > 3 * wide[1]
    assert narrow[1] > 3 * narrow[0]


@pytest.mark.parametrize("image_hw", [(2, 200), (200, 2)])
def test_very_wide_and_very_high_images_give_figures_of_a_readable_size(image_hw):
    figure = show_heatmaps(np.zeros((*image_hw, 3), np.uint8), {LONG: np.zeros(image_hw)})
    assert max(figure.get_size_inches()) < 10


def test_masks_are_shown_with_a_legend():
    figure = show_masks(IMAGE, iter([MASK, ~MASK]), ["red", "红"])
    colors = ((229, 0, 0), palette(1)[0])
    expected = with_legend(overlay_masks(IMAGE, [MASK, ~MASK], colors), ["red", "红"], colors)
    np.testing.assert_array_equal(figure.axes[0].get_images()[0].get_array(), expected)
    own = show_masks(IMAGE, [MASK], ["red"], [(1, 2, 3)], opacity=1)
    drawn = overlay_masks(IMAGE, [MASK], [(1, 2, 3)], opacity=1)
    np.testing.assert_array_equal(own.axes[0].get_images()[0].get_array()[:12, :16], drawn)


def test_without_masks_the_image_is_shown():
    assert show_masks(IMAGE, [], []).axes[0].get_images()[0].get_array().tolist() == IMAGE.tolist()


def test_boxes_are_drawn_on_their_pixels_and_numbered():
    figure = show_box_scores(IMAGE, np.array([[2, 3, 10, 12], [0, 0, 16.0, 12.0]]), ["cup"], np.array([[0.25], [1]]))
    left, right = figure.axes
    outlines = [patch.get_bbox().extents.tolist() for patch in left.patches]
    assert outlines == [[2, 3, 10, 12]] * 2 + [[0, 0, 16, 12]] * 2
    assert left.get_xlim() == (0, 16)
    assert left.get_ylim() == (12, 0)
    assert [text.get_text() for text in left.texts] == ["1", "2"]
    assert [text.get_text() for text in right.texts] == ["0.25", "1.00"]


@pytest.mark.parametrize("names", [["red", "blue"], [f"{LONG} {index}" for index in range(9)]])
def test_a_matrix_shows_every_number_on_a_fixed_color_range_and_cuts_no_name(names):
    values = np.random.RandomState(5).rand(2, len(names)) * 0.5
    figure = show_matrix([LONG, "dog"], names, values)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == [f"{value:.2f}" for value in values.ravel()]
    assert axes.get_images()[0].get_clim() == (0, 1)
    labels = [*axes.get_xticklabels(), *axes.get_yticklabels()]
    assert len(labels) == len(names) + 2
    assert_inside(figure, labels)


@pytest.mark.parametrize(
    ("names", "rotation"),
    [
        (["red"] * 9, 0),
        (["red"] * 11, 90),
        ([LONG], 0),
        ([LONG] * 2, 0),
        ([LONG] * 3, 90),
        (["red circle", "blue circle", "green square"], 0),
        (["red striped circle", "blue striped circle", "blue dotted square", "green square"], 90),
    ],
)
def test_names_of_columns_are_turned_where_horizontal_names_would_make_a_matrix_too_wide(names, rotation):
    figure = show_matrix(["dog"], names, np.zeros((1, len(names))))
    assert {label.get_rotation() for label in figure.axes[0].get_xticklabels()} == {rotation}
    assert figure.get_size_inches()[0] < 8


def test_names_of_columns_do_not_overlap():
    figure = show_matrix(["dog"], [f"{LONG} {index}" for index in range(9)], np.zeros((1, 9)))
    FigureCanvasAgg(figure).draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    for first, second in pairwise(boxes):
        assert first.x1 <= second.x0


def test_names_are_plain_text_and_characters_without_a_glyph_are_escaped():
    figure = show_matrix(["$5 bill$", "红"], ["a_b"], np.zeros((2, 1)))
    labels = figure.axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["$5 bill$", "\\u7ea2"]
    assert not any(label.get_parse_math() for label in labels)
    drawn(figure)


def test_the_configured_font_decides_which_characters_are_escaped():
    with matplotlib.rc_context({"font.family": ["DejaVu Sans Mono"]}):
        figure = show_matrix(["é"], ["b"], np.zeros((1, 1)))
    assert figure.axes[0].get_yticklabels()[0].get_text() == "é"


def test_a_notebook_figure_is_a_matplotlib_figure():
    assert isinstance(show_matrix(["a"], ["b"], np.zeros((1, 1))), NotebookFigure)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: show_heatmaps(IMAGE, {}), OptionError, "maps: expected at least one prompt"),
        (lambda: show_heatmaps(MASK, {"a": SCORES}), ShapeError, "image: expected an RGB image"),
        (lambda: show_heatmaps(IMAGE, {"a": SCORES}, columns=0), OptionError, "columns: expected a whole number"),
        (lambda: show_heatmaps(IMAGE, {"a": SCORES[:3]}), ShapeError, "maps: expected an array"),
        (lambda: show_masks(IMAGE, [MASK], ["a", "b"]), OptionError, "got fewer masks"),
        (
            lambda: show_masks(IMAGE, [MASK], ["a"], palette(2)),
            OptionError,
            "colors: expected one color per class",
        ),
        (
            lambda: show_box_scores(IMAGE, np.zeros((1, 3)), ["a"], np.zeros((1, 1))),
            ShapeError,
            "boxes_xyxy: ",
        ),
        (
            lambda: show_box_scores(IMAGE, np.zeros((1, 4)), ["a"], np.zeros((2, 1))),
            ShapeError,
            "probabilities: ",
        ),
        (lambda: show_matrix(["a"], ["b"], np.full((1, 1), 1.5)), ShapeError, r"values: .*1\.5 to 1\.5"),
        (lambda: show_matrix(["a"], ["b"], np.full((1, 1), np.nan)), ShapeError, "values: .*nan"),
        (lambda: show_matrix([], [], np.zeros((0, 0))), ShapeError, "values: expected at least one row"),
    ],
)
def test_wrong_arguments_are_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


NAMES = ["W" * 60, "$x^2$", "红色", "a wooden table with a red saucer and a spoon on it", *map(str, range(12))]


@pytest.mark.parametrize("image_hw", [(100, 20_000), (20_000, 100), (400, 600), (3, 3)])
def test_a_legend_for_a_paper_has_one_size_and_is_cut_by_no_image(image_hw):
    figure = figure_with_legend(np.zeros((*image_hw, 3), np.uint8), NAMES, palette(len(NAMES)))
    figure.savefig(BytesIO(), format="png")
    width, height = figure.get_size_inches()
    legend, (axes,) = figure.legends[0], figure.axes
    assert {text.get_fontsize() for text in legend.get_texts()} == {9}
    extent, picture = legend.get_window_extent(), axes.get_window_extent()
    assert extent.x0 >= 0
    assert extent.y0 >= 0
    assert extent.x1 <= 100 * width == 600
    assert picture.y0 == pytest.approx(extent.y1, abs=0.01)
    assert (picture.x0, picture.y1) == pytest.approx((0, 100 * height), abs=0.01)
    assert max(picture.width, picture.height) == pytest.approx(600, abs=0.01)
    assert picture.width / picture.height == pytest.approx(image_hw[1] / image_hw[0])


def test_the_text_of_a_figure_stays_text_in_svg_and_pdf():
    figure = figure_with_legend(IMAGE, ["red cup", "$x$"], palette(2))
    svg, pdf = BytesIO(), BytesIO()
    figure.savefig(svg, format="svg")
    figure.savefig(pdf, format="pdf")
    assert b">red cup</text>" in svg.getvalue()
    assert b">$x$</text>" in svg.getvalue()
    assert b"/FontFile2" in pdf.getvalue()  # TrueType, whose letters can be searched and copied


def test_a_figure_without_names_is_its_picture():
    figure = figure_with_legend(np.zeros((300, 600, 3), np.uint8), [], [])
    assert (figure.legends, figure.get_size_inches().tolist()) == ([], [6.0, 3.0])
    with pytest.raises(OptionError, match="colors: expected one color per class, 1, got 2"):
        figure_with_legend(IMAGE, ["red"], palette(2))
