"""Legends: the names and colors of classes, beside or below a picture.

The layout is computed before anything is drawn, so that a test can check that no label is cut and no two overlap.
Long names are wrapped and the panel grows; no name is shortened.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_image
from fgseg.drawing.colors import Color, check_colors
from fgseg.drawing.text import font_size_within, line_height, text_block, text_width, wrap_text

__all__ = ["Box", "LegendLayout", "LegendRow", "legend_layout", "with_legend"]

Box = tuple[int, int, int, int]
"""(left, top, right, bottom) pixels, half open."""

LINE_IN_FONTS = 20
"""Names are wrapped at this many font sizes: about 35 letters."""
BORDER = 96
"""Grey level of the border of a swatch."""


@dataclass(frozen=True)
class LegendRow:
    """One class of a legend.

    Attributes:
        name: as given.
        swatch_xyxy: the square of the class's color, in pixels of the canvas.
        text_xyxy: the wrapped name, in pixels of the canvas.
    """

    name: str
    swatch_xyxy: Box
    text_xyxy: Box


@dataclass(frozen=True)
class LegendLayout:
    """The positions of a picture and its legend.

    Attributes:
        canvas_hw: (height, width) of both; the picture lies unscaled in the top left corner.
        panel_xyxy: the legend's part of the canvas, beside or below the picture.
        font_size: in pixels.
        rows: one per name, in the order given.
    """

    canvas_hw: tuple[int, int]
    panel_xyxy: Box
    font_size: int
    rows: tuple[LegendRow, ...]


def legend_layout(image_hw: tuple[int, int], names: Sequence[str]) -> LegendLayout:
    """Place a legend beside or below a picture.

    The side and the number of columns are those that give the canvas with the shortest longer side, and among those
    the smallest canvas. The font size is `fgseg.drawing.text.font_size_within` of the picture.

    Args:
        image_hw: (height, width) of the picture in pixels.
        names: class names of any length and number; without names the panel is empty.

    Returns:
        The layout. Its boxes lie inside the panel and do not overlap; the panel does not cover the picture.

    >>> layout = legend_layout((48, 64), ["red", "blue circle"])
    >>> layout.panel_xyxy[:2], layout.font_size, [row.name for row in layout.rows]
    ((0, 48), 13, ['red', 'blue circle'])
    """
    height, width = image_hw
    font_size = font_size_within(image_hw)
    if not names:
        return LegendLayout((height, width), (0, height, 0, height), font_size, ())
    text_hw = np.array([_text_hw(name, font_size) for name in names])
    choices = []
    for columns in sorted({-(-len(names) // rows) for rows in range(1, len(names) + 1)}):
        panel_height, panel_width = _panel_hw(text_hw, columns, font_size)
        below = (0, height, panel_width, height + panel_height)
        beside = (width, 0, width + panel_width, panel_height)
        choices += [(box, columns, (max(height, box[3]), max(width, box[2]))) for box in (below, beside)]
    panel_xyxy, columns, canvas_hw = min(choices, key=lambda choice: (max(choice[2]), prod(choice[2])))
    rows = _rows(names, text_hw, columns, font_size, panel_xyxy[:2])
    return LegendLayout(canvas_hw, panel_xyxy, font_size, rows)


def with_legend(image: NDArray[np.uint8], names: Sequence[str], colors: Sequence[Color]) -> NDArray[np.uint8]:
    """Place a picture and its legend on a white canvas.

    Args:
        image: (H, W, 3) uint8 RGB; it lies unscaled in the top left corner of the result.
        names: class names; characters that no font holds are written as escapes (`fgseg.drawing.text`).
        colors: one per name.

    Returns:
        (H', W', 3) uint8 RGB, H' >= H and W' >= W; a copy of the picture when there is no name.

    Raises:
        ShapeError: `image` is not an RGB image.
        OptionError: not one color per name, or a color that is not RGB.

    >>> image = np.zeros((48, 64, 3), np.uint8)
    >>> canvas = with_legend(image, ["red", "blue circle"], [(255, 0, 0), (0, 0, 255)])
    >>> bool((canvas[:48, :64] == image).all()), canvas.shape > image.shape
    (True, True)
    """
    check_image("image", image)
    check_colors(colors, len(names))
    height, width = image.shape[:2]
    layout = legend_layout((height, width), names)
    canvas = np.full((*layout.canvas_hw, 3), 255, np.uint8)
    canvas[:height, :width] = image
    border = max(1, layout.font_size // 12)
    for row, color in zip(layout.rows, colors, strict=True):
        left, top, right, bottom = row.swatch_xyxy
        canvas[top:bottom, left:right] = BORDER
        canvas[top + border : bottom - border, left + border : right - border] = color
        left, top, right, bottom = row.text_xyxy
        canvas[top:bottom, left:right] = text_block(row.name, layout.font_size, LINE_IN_FONTS * layout.font_size)
    return canvas


def _text_hw(name: str, font_size: int) -> tuple[int, int]:
    """(height, width) of a wrapped name in pixels."""
    lines = wrap_text(name, font_size, LINE_IN_FONTS * font_size)
    return len(lines) * line_height(font_size), max(text_width(line, font_size) for line in lines)


def _gap(font_size: int) -> int:
    """Space around the panel, and between a swatch and its name; the space between columns is twice as wide."""
    return max(4, font_size // 2)


def _panel_hw(text_hw: NDArray[np.int64], columns: int, font_size: int) -> tuple[int, int]:
    """(height, width) in pixels of a panel with this number of columns."""
    gap = _gap(font_size)
    starts = np.arange(0, len(text_hw), -(-len(text_hw) // columns))
    height = np.add.reduceat(text_hw[:, 0], starts).max()
    widths = np.maximum.reduceat(text_hw[:, 1], starts) + font_size + 3 * gap
    return int(height) + 2 * gap, int(widths.sum())


def _rows(
    names: Sequence[str], text_hw: NDArray[np.int64], columns: int, font_size: int, corner_xy: tuple[int, int]
) -> tuple[LegendRow, ...]:
    """The boxes of every name in a panel whose top left corner is `corner_xy`."""
    gap, per_column = _gap(font_size), -(-len(names) // columns)
    rows = []
    left = corner_xy[0] + gap
    for start in range(0, len(names), per_column):
        sizes = text_hw[start : start + per_column].tolist()
        text_left, top = left + font_size + gap, corner_xy[1] + gap
        for name, (height, width) in zip(names[start:], sizes, strict=False):
            # The swatch is centred on the first line: capitals reach 0.73 font sizes above the baseline.
            swatch_top = top + (line_height(font_size) - font_size) // 2
            swatch = (left, swatch_top, left + font_size, swatch_top + font_size)
            rows.append(LegendRow(name, swatch, (text_left, top, text_left + width, top + height)))
            top += height
        left = text_left + max(width for _, width in sizes) + 2 * gap
    return tuple(rows)
