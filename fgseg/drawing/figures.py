"""Matplotlib figures for notebooks: thin, without pyplot and its global state.

Every function returns a figure that a notebook shows as the last value of a cell, and that
``figure.savefig(path)`` writes. Text is plain, never mathematics. A character that matplotlib's configured
fonts lack is written as its escape, so set ``matplotlib.rcParams["font.family"]`` to read Chinese.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from io import BytesIO
from textwrap import fill

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from numpy.typing import NDArray

from fgseg._checks import check_array, check_image, check_number
from fgseg.drawing.colors import COLORMAPS, Color, check_colors, palette
from fgseg.drawing.legend import with_legend
from fgseg.drawing.overlay import overlay_heatmap, overlay_masks
from fgseg.errors import OptionError, ShapeError
from fgseg.images.resizing import shrink

__all__ = ["NotebookFigure", "plain_name", "show_box_scores", "show_heatmaps", "show_masks", "show_matrix"]

PANEL = 3.4
"""Side of a picture in a figure, inches."""
SHOWN_SIDE = 1000
"""Pictures are reduced to this many pixels: more than a notebook shows, little to hold."""
SMALLEST_SHOWN = 400
"""Pictures with a legend are enlarged to this many pixels."""
DPI = 100
LETTERS = 28
"""Names are wrapped at this many letters."""
LETTER, LINE = 0.09, 0.19
"""Room for a letter and for a line of a name, inches."""
SMALLEST_CELL = 0.5
"""Width of a matrix's cell, inches: a number fits."""
LEVEL_WIDTH = 5.0
"""Inches; names above columns that would need more are turned."""


class NotebookFigure(Figure):
    """A matplotlib figure that draws itself in a notebook though pyplot never saw it; nothing is cut off.

    >>> NotebookFigure(figsize=(1, 1))._repr_png_()[1:4]
    b'PNG'
    """

    def _repr_png_(self) -> bytes:
        stream = BytesIO()
        self.savefig(stream, format="png", bbox_inches="tight")
        return stream.getvalue()


def show_heatmaps(
    image: NDArray[np.uint8],
    maps: Mapping[str, NDArray[np.floating]],
    *,
    columns: int = 4,
    opacity: float = 0.8,
    colormap: str = COLORMAPS[0],
) -> NotebookFigure:
    """The photograph, then a panel a prompt under its heatmap, and one color bar of presence for all.

    Args:
        image: (H, W, 3) uint8 RGB.
        maps: prompt -> (H, W) floating point presence in [0, 1], at least one; asked for one at a time.
        columns: of panels, at least 1.
        opacity: of a heatmap where the score is 1.
        colormap: one of `fgseg.drawing.layout.COLORMAPS`.

    Raises:
        ShapeError: `image` or a map are not as said.
        OptionError: no map, or an option out of range.

    >>> figure = show_heatmaps(np.zeros((8, 8, 3), np.uint8), {"red": np.zeros((8, 8))})
    >>> [axes.get_title() for axes in figure.axes]
    ['image', 'red', '']
    """
    check_image("image", image)
    check_number("columns", columns, low=1, high=1000)
    if not maps:
        raise OptionError("maps: expected at least one prompt with its score map, got none")
    across = min(columns, len(maps) + 1)
    figure, panels = _panels(image.shape[:2], len(maps) + 1, across)
    _show_picture(panels[0], image, "image")
    for axes, name in zip(panels[1:], maps, strict=True):
        _show_picture(axes, overlay_heatmap(image, maps[name], opacity=opacity, colormap=colormap), name)
    scale = ScalarMappable(Normalize(0, 1), colormap)
    figure.colorbar(scale, ax=panels, label="presence", ticks=[0, 0.5, 1], shrink=0.9)
    return figure


def show_masks(
    image: NDArray[np.uint8],
    masks: Iterable[NDArray[np.bool_]],
    names: Sequence[str],
    colors: Sequence[Color] | None = None,
    *,
    opacity: float = 0.5,
) -> NotebookFigure:
    """The photograph tinted by masks, with the legend of `fgseg.drawing.layout.with_legend`.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: (H, W) bool, one a name; they may overlap.
        names: of the masks.
        colors: one a name; None takes `palette`.
        opacity: of the tint, in [0, 1].

    Raises:
        ShapeError: `image` or a mask are not as said.
        OptionError: names, masks and colors of different numbers, or an option out of range.

    >>> figure = show_masks(np.zeros((8, 8, 3), np.uint8), [np.ones((8, 8), bool)], ["red"])
    >>> [axes.get_images()[0].get_array().ndim for axes in figure.axes]
    [3]
    """
    chosen = palette(len(names)) if colors is None else colors
    check_colors(chosen, len(names))
    tinted = shrink(overlay_masks(image, masks, chosen, opacity=opacity), max_side=SHOWN_SIDE)
    picture = with_legend(tinted, names, chosen)
    height, width = picture.shape[:2]
    # The figure has the picture's own pixels, so that the letters stay sharp; a small one is enlarged.
    scale = max(1.0, SMALLEST_SHOWN / max(height, width)) / DPI
    figure = NotebookFigure(figsize=(width * scale, height * scale), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(picture, interpolation="nearest")
    axes.set_axis_off()
    return figure


def show_box_scores(
    image: NDArray[np.uint8],
    boxes_xyxy: NDArray[np.floating] | NDArray[np.integer],
    names: Sequence[str],
    probabilities: NDArray[np.floating],
) -> NotebookFigure:
    """Numbered boxes on the photograph, and beside it how well each box fits each phrase.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes_xyxy: (N, 4) pixels, half open, N at least 1.
        names: the T phrases.
        probabilities: (N, T) in [0, 1].

    Raises:
        ShapeError: an array is not as said.

    >>> figure = show_box_scores(
    ...     np.zeros((8, 8, 3), np.uint8), np.array([[0, 0, 4, 4]]), ["red", "blue"], np.array([[0.9, 0.1]])
    ... )
    >>> len(figure.axes)
    2
    """
    check_image("image", image)
    check_array("boxes_xyxy", boxes_xyxy, ("N", 4), hint="(left, top, right, bottom) a box")
    count = len(boxes_xyxy)
    _check_matrix("probabilities", probabilities, count, len(names))
    width, height = _matrix_size(["00"] * count, names)
    figure = NotebookFigure(figsize=(1.6 * PANEL + width, max(1.2 * PANEL, height)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.6 * PANEL, width))
    _show_picture(left, image, "")
    colors = palette(count)
    for number, (box, color) in enumerate(zip(boxes_xyxy.tolist(), colors, strict=True), start=1):
        _draw_box(left, box, str(number), color)
    _draw_matrix(right, [str(number) for number in range(1, count + 1)], names, probabilities)
    right.set_ylabel("box")
    return figure


def show_matrix(row_names: Sequence[str], column_names: Sequence[str], values: NDArray[np.floating]) -> NotebookFigure:
    """A matrix of scores in [0, 1] with its numbers written in: prompts by regions, images by captions.

    Args:
        row_names: R names.
        column_names: C names.
        values: (R, C) in [0, 1], R and C at least 1; the colors span [0, 1] whatever the values.

    Raises:
        ShapeError: `values` are not as said.

    >>> figure = show_matrix(["red", "blue"], ["cup"], np.array([[0.9], [0.1]]))
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['0.90', '0.10']
    """
    _check_matrix("values", values, len(row_names), len(column_names))
    figure = NotebookFigure(figsize=_matrix_size(row_names, column_names), layout="constrained")
    _draw_matrix(figure.subplots(), row_names, column_names, values)
    return figure


def _panels(image_hw: tuple[int, ...], count: int, columns: int) -> tuple[NotebookFigure, list[Axes]]:
    """A figure with `count` empty axes, each of the picture's shape and PANEL inches long."""
    rows = -(-count // columns)
    # Panoramas and towers are held to 1:4, so that a title has room and a figure an end.
    aspect = min(4.0, max(0.25, image_hw[0] / image_hw[1]))
    height, width = PANEL * min(1.0, aspect), PANEL / max(1.0, aspect)
    size = (max(width, 1.5) * columns + 1, (height + 0.5) * rows)
    figure = NotebookFigure(figsize=size, layout="compressed")
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes in grid[count:]:
        axes.remove()
    return figure, grid[:count]


def _show_picture(axes: Axes, image: NDArray[np.uint8], title: str) -> None:
    """Draw a picture, reduced, in its own pixel frame: edges of pixels lie at whole numbers."""
    height, width = image.shape[:2]
    axes.imshow(shrink(image, max_side=SHOWN_SIDE), extent=(0, width, height, 0), interpolation="antialiased")
    axes.set_title(plain_name(title), fontsize="medium", parse_math=False)
    axes.set_axis_off()


def _draw_box(axes: Axes, box_xyxy: Sequence[float], label: str, color: Color) -> None:
    left, top, right, bottom = box_xyxy
    for width, edge in ((4, "black"), (2, _unit(color))):
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, linewidth=width, edgecolor=edge))
    patch = {"facecolor": _unit(color), "edgecolor": "black", "pad": 1.5}
    axes.text(left, top, label, color=_ink_on(color), bbox=patch, va="top", ha="left", fontsize="small")


def _draw_matrix(
    axes: Axes, row_names: Sequence[str], column_names: Sequence[str], values: NDArray[np.floating]
) -> None:
    axes.imshow(values, cmap=COLORMAPS[0], vmin=0, vmax=1, aspect="auto")
    axes.set_yticks(range(len(row_names)), [plain_name(name) for name in row_names])
    axes.set_xticks(range(len(column_names)), [plain_name(name) for name in column_names])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.tick_params(axis="x", labelrotation=90 if _turned(column_names) else 0)
    _plain([*axes.get_xticklabels(), *axes.get_yticklabels()])
    table = matplotlib.colormaps[COLORMAPS[0]]
    for (row, column), value in np.ndenumerate(values):
        red, green, blue = (round(255 * part) for part in table(float(value))[:3])
        ink = _ink_on((red, green, blue))
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink, fontsize="small")


def _matrix_size(row_names: Sequence[str], column_names: Sequence[str]) -> tuple[float, float]:
    """(width, height) in inches that leave room for the names and for a number in every cell."""
    rows = [plain_name(name).split("\n") for name in row_names]
    column_label, column_lines = _label_size(column_names)
    if _turned(column_names):
        cell, heading = max(SMALLEST_CELL, column_lines + 0.1), column_label
    else:
        cell, heading = _level_cell(column_names), column_lines
    cells = len(rows) * max(0.35, LINE * max(len(lines) for lines in rows) + 0.1)
    return _label_size(row_names)[0] + cell * len(column_names) + 0.5, cells + heading + 0.4


def _label_size(names: Sequence[str]) -> tuple[float, float]:
    """(width, height) in inches of the longest and the tallest of wrapped names."""
    wrapped = [plain_name(name).split("\n") for name in names]
    return LETTER * max(len(text) for lines in wrapped for text in lines), LINE * max(map(len, wrapped))


def _level_cell(names: Sequence[str]) -> float:
    """Width in inches of a column whose name is written level."""
    return max(SMALLEST_CELL, _label_size(names)[0] + 0.15)


def _turned(names: Sequence[str]) -> bool:
    """Whether names above the columns are written upwards: when level ones would make the matrix too wide."""
    return len(names) * _level_cell(names) > LEVEL_WIDTH


def _check_matrix(name: str, values: NDArray[np.floating], rows: int, columns: int) -> None:
    check_array(name, values, (rows, columns), hint="one row and one column a name")
    if not (rows and columns):
        raise ShapeError(f"{name}: expected at least one row and one column, got {rows} x {columns}")
    # NaN compares false and is refused here too.
    if not (values.min() >= 0 and values.max() <= 1):
        low, high = values.min(), values.max()
        raise ShapeError(f"{name}: expected numbers in [0, 1], got {low:g} to {high:g}; give probabilities")


def plain_name(name: str) -> str:
    """A name as figures write it: wrapped, and what matplotlib's fonts lack as escapes.

    >>> plain_name("a  cup")
    'a cup'
    """
    return fill("".join(_drawable(character) for character in " ".join(name.split())), LETTERS)


def _drawable(character: str) -> str:
    family = tuple(matplotlib.rcParams["font.family"])
    return character if _in_fonts(character, family) else character.encode("unicode_escape").decode("ascii")


@cache
def _in_fonts(character: str, family: tuple[str, ...]) -> bool:
    """Whether one of these fonts holds the character: matplotlib warns and draws a box where none does."""
    paths = [findfont(FontProperties(family=[name])) for name in family]
    return any(get_font(path).get_char_index(ord(character)) for path in paths)


def _plain(texts: Iterable[Text]) -> None:
    """Keep dollar signs dollar signs."""
    for text in texts:
        text.set_parse_math(False)


def _unit(color: Color) -> tuple[float, float, float]:
    red, green, blue = color
    return red / 255, green / 255, blue / 255


def _ink_on(color: Color) -> str:
    """Black or white, whichever reads better on the color (luma of BT.601)."""
    red, green, blue = color
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else "white"
