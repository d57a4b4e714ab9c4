"""Matplotlib figures for notebooks, made without pyplot and its global state.

Every function returns a figure that a notebook shows as the last value of a cell, and that
``figure.savefig(path)`` writes. Names in matrices are plain text, never mathematics. A character that matplotlib's
configured fonts lack is written as its escape; set ``matplotlib.rcParams["font.family"]`` to read Chinese there.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from io import BytesIO
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike, NDArray

from fgseg._checks import check_array, check_shares
from fgseg.drawing.colors import COLORMAPS, Color, check_colors, distinct_colors, palette, word_color
from fgseg.drawing.legend import with_legend
from fgseg.drawing.overlay import Base, overlay_masks
from fgseg.drawing.sheet import heatmap_sheet
from fgseg.drawing.text import printable
from fgseg.errors import ShapeError
from fgseg.images.resizing import shrink

__all__ = [
    "NotebookFigure",
    "draw_matrix",
    "figure_with_legend",
    "matrix_size",
    "plain_name",
    "show_box_scores",
    "show_heatmaps",
    "show_masks",
    "show_matrix",
    "show_picture",
]

PANEL_HW = 4.08, 5.44
"""Smallest height, and width, of the image beside a matrix, in inches."""
SHEET_SIDE = 1536
"""About the longest side of a sheet of heatmaps, in pixels."""
SHOWN_SIDE = 1000
"""Images are reduced to this many pixels, which is more than a notebook shows."""
SMALLEST_SHOWN = 400
"""Smaller pictures are enlarged to this many pixels."""
DPI = 100
PAPER_SIDE = 6.0
"""Longest side of a picture in a figure with vector text, in inches: the width of a page's text."""
LEGEND_FONT = 9
"""Points, whatever the size of the image."""
MATRIX_COLORS = "viridis"
"""Perceptually uniform, since the cells of a matrix are compared with each other."""
MOST_COLUMNS = 12
"""Of a legend 6 inches wide; a column takes half an inch or more."""
LETTERS = 28
"""Names are wrapped at this many letters."""
LETTER, LINE = 0.09, 0.19
"""Space for one letter and for one line of a name, in inches."""
SMALLEST_CELL = 0.5
"""Width of a matrix's cell that holds a number, in inches."""
LEVEL_WIDTH = 5.0
"""Inches; if horizontal names above the columns need more, they are rotated."""


class NotebookFigure(Figure):
    """A matplotlib figure that a notebook displays without pyplot; nothing is cut off.

    `savefig("figure.pdf")` and `savefig("figure.svg")` write text as text.

    >>> NotebookFigure(figsize=(1, 1))._repr_png_()[1:4]
    b'PNG'
    """

    def savefig(self, fname: Any, **options: Any) -> None:
        """Save the figure, with the arguments of matplotlib's `Figure.savefig`; the ending chooses the format."""
        # By default matplotlib writes outlines of letters into SVG, and fonts that journals refuse into PDF.
        with matplotlib.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42}):
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        stream = BytesIO()
        self.savefig(stream, format="png", bbox_inches="tight")
        return stream.getvalue()


def show_picture(picture: NDArray[np.uint8]) -> NotebookFigure:
    """A picture in its own pixels, so that its letters stay sharp; a small picture is enlarged.

    Args:
        picture: (H, W, 3) uint8 RGB.

    >>> show_picture(np.zeros((300, 600, 3), np.uint8)).get_size_inches().tolist()
    [6.0, 3.0]
    """
    height, width = picture.shape[:2]
    scale = max(1.0, SMALLEST_SHOWN / max(height, width)) / DPI
    figure = NotebookFigure(figsize=(width * scale, height * scale), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(picture, interpolation="nearest")
    axes.set_axis_off()
    return figure


def figure_with_legend(picture: NDArray[np.uint8], names: Sequence[str], colors: Sequence[Color]) -> NotebookFigure:
    """A picture in its own pixels above a legend in vector text of one size, for a paper.

    Args:
        picture: (H, W, 3) uint8 RGB; its longer side is 6 inches long.
        names: of the legend; none leaves the legend out.
        colors: one per name.

    Returns:
        A figure 6 inches wide and as high as the picture and the legend.

    Raises:
        OptionError: not one color per name, or a color that is not RGB.

    >>> figure = figure_with_legend(np.zeros((300, 600, 3), np.uint8), [], [])
    >>> figure.get_size_inches().tolist()
    [6.0, 3.0]
    """
    check_colors(colors, len(names))
    height, width = (PAPER_SIDE * side / max(picture.shape[:2]) for side in picture.shape[:2])
    figure = NotebookFigure(figsize=(PAPER_SIDE, height), dpi=DPI)
    below = _draw_legend(figure, names, colors) if names else 0.0
    figure.set_size_inches(PAPER_SIDE, height + below)
    shares = (0, below / (height + below), width / PAPER_SIDE, height / (height + below))
    axes = figure.add_axes(shares)
    axes.imshow(picture, interpolation="none", aspect="auto")
    axes.set_axis_off()
    return figure


def _draw_legend(figure: Figure, names: Sequence[str], colors: Sequence[Color]) -> float:
    """Draw a legend at the bottom left in as many columns as fit; returns its height in inches."""
    shares = [(red / 255, green / 255, blue / 255) for red, green, blue in colors]
    handles = [Patch(facecolor=share, edgecolor="dimgrey", linewidth=0.5) for share in shares]
    labels = [plain_name(name) for name in names]
    for columns in range(min(len(names), MOST_COLUMNS), 0, -1):
        legend = figure.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0, 0), ncols=columns, fontsize=LEGEND_FONT,
            frameon=False, borderaxespad=0, handlelength=1, handleheight=1,
        )  # fmt: skip
        for text in legend.get_texts():
            text.set_parse_math(False)
        extent = legend.get_window_extent()
        if extent.width <= PAPER_SIDE * DPI or columns == 1:
            break
        legend.remove()
    return float(extent.height / DPI)


def show_heatmaps(
    image: NDArray[np.uint8],
    maps: Mapping[str, NDArray[np.floating]],
    *,
    columns: int = 4,
    opacity: float = 0.8,
    colormap: str = COLORMAPS[0],
    base: Base = "grey",
) -> NotebookFigure:
    """The sheet of `heatmap_sheet` as a figure; arguments and errors as there.

    >>> figure = show_heatmaps(np.zeros((8, 8, 3), np.uint8), {"red": np.zeros((8, 8))})
    >>> [axes.get_images()[0].get_array().ndim for axes in figure.axes]
    [3]
    """
    sheet = heatmap_sheet(
        image, maps, opacity=opacity, colormap=colormap, columns=columns, max_side=SHEET_SIDE, base=base
    )
    return show_picture(sheet)


def show_masks(
    image: NDArray[np.uint8],
    masks: Iterable[NDArray[np.bool_]],
    names: Sequence[str],
    colors: Sequence[Color] | None = None,
    *,
    opacity: float = 0.5,
    base: Base = "grey",
) -> NotebookFigure:
    """An image tinted by masks, with the legend of `with_legend`.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: (H, W) bool, one per name; they may overlap.
        names: of the masks.
        colors: one per name; None takes those of `class_colors` for classes of these names.
        opacity: of the tint, in [0, 1].
        base: as in `overlay_labels`.

    Raises:
        ShapeError: `image` or a mask has another shape or dtype.
        OptionError: different numbers of names, masks and colors, or an option out of range.

    >>> figure = show_masks(np.zeros((8, 8, 3), np.uint8), [np.ones((8, 8), bool)], ["red"])
    >>> [axes.get_images()[0].get_array().ndim for axes in figure.axes]
    [3]
    """
    mask_colors = distinct_colors([word_color(name) for name in names]) if colors is None else colors
    check_colors(mask_colors, len(names))
    tinted = shrink(overlay_masks(image, masks, mask_colors, opacity=opacity, base=base), max_side=SHOWN_SIDE)
    return show_picture(with_legend(tinted, names, mask_colors))


def show_box_scores(
    image: NDArray[np.uint8],
    boxes_xyxy: NDArray[np.floating] | NDArray[np.integer],
    names: Sequence[str],
    probabilities: NDArray[np.floating],
) -> NotebookFigure:
    """Numbered boxes on an image, and beside it a matrix of how well each box fits each phrase.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes_xyxy: (N, 4) pixels, half open, N at least 1.
        names: the T phrases.
        probabilities: (N, T) in [0, 1].

    Raises:
        ShapeError: an array of another shape or dtype, or a probability outside [0, 1].

    >>> figure = show_box_scores(
    ...     np.zeros((8, 8, 3), np.uint8), np.array([[0, 0, 4, 4]]), ["red", "blue"], np.array([[0.9, 0.1]])
    ... )
    >>> len(figure.axes)
    2
    """
    picture = shrink(image, max_side=SHOWN_SIDE)
    check_array("boxes_xyxy", boxes_xyxy, ("N", 4), hint="(left, top, right, bottom) per box")
    numbers = [str(number) for number in range(1, len(boxes_xyxy) + 1)]
    _check_matrix("probabilities", probabilities, len(numbers), len(names))
    # Space for box numbers of two digits.
    width, height = matrix_size(["00"] * len(numbers), names)
    size = PANEL_HW[1] + width, max(PANEL_HW[0], height)
    figure = NotebookFigure(figsize=size, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(PANEL_HW[1], width))
    # Edges of pixels lie at whole numbers.
    extent = (0, image.shape[1], image.shape[0], 0)
    left.imshow(picture, extent=extent, interpolation="antialiased")
    left.set_axis_off()
    for number, box, color in zip(numbers, boxes_xyxy.tolist(), palette(len(numbers)), strict=True):
        _draw_box(left, box, number, color)
    draw_matrix(right, numbers, names, probabilities)
    right.set_ylabel("box")
    return figure


def show_matrix(row_names: Sequence[str], column_names: Sequence[str], values: NDArray[np.floating]) -> NotebookFigure:
    """A matrix of scores in [0, 1] with its numbers written in its cells.

    Args:
        row_names: R names.
        column_names: C names.
        values: (R, C) in [0, 1], R and C at least 1; the colors always span [0, 1].

    Raises:
        ShapeError: `values` has another shape, or a value lies outside [0, 1].

    >>> figure = show_matrix(["red", "blue"], ["cup"], np.array([[0.9], [0.1]]))
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['0.90', '0.10']
    """
    _check_matrix("values", values, len(row_names), len(column_names))
    figure = NotebookFigure(figsize=matrix_size(row_names, column_names), layout="constrained")
    draw_matrix(figure.subplots(), row_names, column_names, values)
    return figure


def _draw_box(axes: Axes, box_xyxy: Sequence[float], label: str, color: Color) -> None:
    left, top, right, bottom = box_xyxy
    fill_color = np.divide(color, 255)
    for width, edge in ((4, "black"), (2, fill_color)):
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, linewidth=width, edgecolor=edge))
    patch = {"facecolor": fill_color, "edgecolor": "black", "pad": 1.5}
    axes.text(left, top, label, color=_ink_on(fill_color), bbox=patch, va="top", ha="left", fontsize="small")


def draw_matrix(
    axes: Axes, row_names: Sequence[str], column_names: Sequence[str], values: NDArray[np.floating]
) -> None:
    """Draw a matrix of scores in [0, 1], its names and its numbers."""
    drawn = axes.imshow(values, cmap=MATRIX_COLORS, vmin=0, vmax=1, aspect="auto")
    rotation = 90 if _turned(column_names) else 0
    axes.set_yticks(range(len(row_names)), map(plain_name, row_names), parse_math=False)
    axes.set_xticks(range(len(column_names)), map(plain_name, column_names), rotation=rotation, parse_math=False)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for (row, column), value in np.ndenumerate(values):
        ink = _ink_on(drawn.to_rgba(value)[:3])
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink, fontsize="small")


def matrix_size(row_names: Sequence[str], column_names: Sequence[str]) -> tuple[float, float]:
    """Width and height in inches of a matrix with space for its names and for a number in every cell."""
    row_width, row_height = _names_size(row_names)
    width, height = _names_size(column_names)
    cell = max(SMALLEST_CELL, width + 0.15)
    if _turned(column_names):
        cell, height = max(SMALLEST_CELL, height + 0.1), width
    rows = len(row_names) * max(0.35, row_height + 0.1)
    return row_width + cell * len(column_names) + 0.5, rows + height + 0.4


def _turned(names: Sequence[str]) -> bool:
    """Whether names above the columns are rotated, because horizontal names would make the matrix too wide."""
    return max(SMALLEST_CELL, _names_size(names)[0] + 0.15) * len(names) > LEVEL_WIDTH


def _names_size(names: Sequence[str]) -> tuple[float, float]:
    """Width of the widest and height of the highest of wrapped names, in inches."""
    wrapped = [plain_name(name).split("\n") for name in names]
    return LETTER * max(len(line) for lines in wrapped for line in lines), LINE * max(map(len, wrapped))


def _check_matrix(name: str, values: NDArray[np.floating], rows: int, columns: int) -> None:
    check_array(name, values, (rows, columns), hint="one row and one column per name")
    if not (rows and columns):
        raise ShapeError(f"{name}: expected at least one row and one column, got {rows} x {columns}")
    check_shares(name, values, hint="give probabilities")


def plain_name(name: str) -> str:
    """A name wrapped for a figure; characters that matplotlib's fonts lack are written as escapes.

    >>> plain_name("a  cup")
    'a cup'
    """
    family = tuple(matplotlib.rcParams["font.family"])
    return fill(printable(name, lambda character: _in_fonts(character, family)), LETTERS)


@cache
def _in_fonts(character: str, family: tuple[str, ...]) -> bool:
    """Whether one of these fonts holds the character; matplotlib warns and draws a box where none does."""
    paths = [findfont(FontProperties(family=[name])) for name in family]
    return any(get_font(path).get_char_index(ord(character)) for path in paths)


def _ink_on(color: ArrayLike) -> str:
    """Black or white, whichever is easier to read on this color in [0, 1] (luma of ITU-R BT.601)."""
    return "black" if np.dot(color, (0.299, 0.587, 0.114)) > 0.5 else "white"
