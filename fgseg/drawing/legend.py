"""Legend: the class names and colors beside or below a picture, laid out before anything is drawn.

The layout is a value, so that a test can hold that no label is cut and no two overlap. Long names are wrapped
and the panel grows; nothing is shortened.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_image, check_number
from fgseg.drawing.colors import Color, check_colors
from fgseg.drawing.text import SMALLEST_FONT, font_size_within, line_height, text_block, text_width, wrap_text
from fgseg.errors import OptionError

__all__ = ["Box", "LegendLayout", "LegendRow", "legend", "legend_layout", "with_legend"]

Box = tuple[int, int, int, int]
"""(left, top, right, bottom) pixels, half open."""

LINE_IN_FONTS = 20
"""Names are wrapped at this many font sizes: about 35 letters."""
PAPER = 255
BORDER = 96


@dataclass(frozen=True)
class LegendRow:
    """One class in the legend.

    Attributes:
        name: as given.
        swatch_xyxy: where its color is shown, in pixels of the canvas.
        text_xyxy: where its wrapped name is written, in pixels of the canvas.
    """

    name: str
    swatch_xyxy: Box
    text_xyxy: Box


@dataclass(frozen=True)
class LegendLayout:
    """Where everything of a picture with a legend lies.

    Attributes:
        canvas_hw: (height, width) of the whole; the picture lies unscaled in its top left corner.
        panel_xyxy: the legend's part of the canvas, beside or below the picture.
        font_size: in pixels.
        rows: one entry a name, in the order given.
    """

    canvas_hw: tuple[int, int]
    panel_xyxy: Box
    font_size: int
    rows: tuple[LegendRow, ...]


def legend_layout(image_hw: tuple[int, int], names: Sequence[str]) -> LegendLayout:
    """Place a legend beside or below a picture.

    Side and number of columns are those that make the canvas least long, then least large. The font is
    `fgseg.drawing.text.font_size_within` the picture.

    Args:
        image_hw: (height, width) of the picture in pixels.
        names: class names of any length and number; with none, the panel is empty.

    Returns:
        The layout. Its boxes lie inside the panel and do not overlap; the panel does not touch the picture.

    >>> layout = legend_layout((48, 64), ["red", "blue circle"])
    >>> layout.panel_xyxy[:2], layout.font_size, [row.name for row in layout.rows]
    ((0, 48), 13, ['red', 'blue circle'])
    """
    height, width = image_hw
    if not names:
        return LegendLayout((height, width), (0, height, 0, height), font_size_within(image_hw), ())
    font_size = font_size_within(image_hw)
    panel = _Panel.of(names, font_size)
    choices = []
    for columns in panel.column_counts():
        panel_height, panel_width = panel.size_hw(columns)
        below = (height + panel_height, max(width, panel_width), height, 0, columns)
        beside = (max(height, panel_height), width + panel_width, 0, width, columns)
        choices += [below, beside]
    best = min(choices, key=lambda choice: (max(choice[:2]), choice[0] * choice[1]))
    canvas_height, canvas_width, top, left, columns = best
    rows = panel.rows(names, columns, left=left, top=top)
    panel_height, panel_width = panel.size_hw(columns)
    box = (left, top, left + panel_width, top + panel_height)
    return LegendLayout((canvas_height, canvas_width), box, font_size, rows)


def with_legend(image: NDArray[np.uint8], names: Sequence[str], colors: Sequence[Color]) -> NDArray[np.uint8]:
    """A picture with its legend on a white canvas.

    Args:
        image: (H, W, 3) uint8 RGB; it keeps its pixels and lies in the top left corner of the result.
        names: class names; characters that no font holds are written as escapes (`fgseg.drawing.text`).
        colors: one a name.

    Returns:
        (H', W', 3) uint8 RGB, H' >= H and W' >= W; a copy of the picture when there is no name.

    Raises:
        ShapeError: `image` is not an RGB image.
        OptionError: `colors` are not as many as `names`, or not RGB.

    >>> image = np.zeros((48, 64, 3), np.uint8)
    >>> canvas = with_legend(image, ["red", "blue circle"], [(255, 0, 0), (0, 0, 255)])
    >>> bool((canvas[:48, :64] == image).all()), canvas.shape > image.shape
    (True, True)
    """
    check_image("image", image)
    check_colors(colors, len(names))
    height, width = image.shape[:2]
    layout = legend_layout((height, width), names)
    canvas = np.full((*layout.canvas_hw, 3), PAPER, np.uint8)
    canvas[:height, :width] = image
    _draw_rows(canvas, layout.rows, colors, layout.font_size)
    return canvas


def legend(
    entries: Sequence[tuple[str, Color]], *, width: int = 640, font_size: int = SMALLEST_FONT
) -> NDArray[np.uint8]:
    """The legend alone, in as many columns as fit.

    Args:
        entries: (name, color) pairs, at least one.
        width: in pixels, kept unless one column alone is wider.
        font_size: in pixels.

    Returns:
        (H, W, 3) uint8 RGB, white paper.

    Raises:
        OptionError: no entry, or a number or color out of range.

    >>> legend([("red", (255, 0, 0)), ("blue", (0, 0, 255))], width=100).shape[1] <= 100
    True
    """
    names, colors = [name for name, _ in entries], [color for _, color in entries]
    if not names:
        raise OptionError("entries: expected at least one (name, color) pair, got none")
    check_colors(colors, len(names))
    check_number("width", width, low=1, high=10**6)
    panel = _Panel.of(names, font_size)
    fitting = [columns for columns in panel.column_counts() if panel.size_hw(columns)[1] <= width]
    columns = max(fitting, default=1)
    canvas = np.full((*panel.size_hw(columns), 3), PAPER, np.uint8)
    _draw_rows(canvas, panel.rows(names, columns, left=0, top=0), colors, font_size)
    return canvas


@dataclass(frozen=True)
class _Panel:
    """Sizes of the wrapped names, from which any number of columns is laid out."""

    font_size: int
    text_heights: NDArray[np.int64]
    text_widths: NDArray[np.int64]

    @classmethod
    def of(cls, names: Sequence[str], font_size: int) -> "_Panel":
        wrapped = [wrap_text(name, font_size, LINE_IN_FONTS * font_size) for name in names]
        heights = [len(lines) * line_height(font_size) for lines in wrapped]
        widths = [max(text_width(line, font_size) for line in lines) for lines in wrapped]
        return cls(font_size, np.array(heights), np.array(widths))

    @property
    def gap(self) -> int:
        """Space around the panel and between a swatch and its name; twice that between columns."""
        return max(4, self.font_size // 2)

    @property
    def indent(self) -> int:
        """From a column's left edge to its text: the swatch, one font size wide, and a gap."""
        return self.font_size + self.gap

    def column_counts(self) -> list[int]:
        """The numbers of columns that names of this count really fill, ascending."""
        count = len(self.text_heights)
        return sorted({-(-count // per_column) for per_column in range(1, count + 1)})

    def starts(self, columns: int) -> NDArray[np.int64]:
        """Index of the first name of each column."""
        count = len(self.text_heights)
        return np.arange(0, count, -(-count // columns))

    def size_hw(self, columns: int) -> tuple[int, int]:
        """(height, width) of the panel in pixels."""
        starts = self.starts(columns)
        height = int(np.add.reduceat(self.text_heights, starts).max())
        widths = np.maximum.reduceat(self.text_widths, starts) + self.indent + 2 * self.gap
        return height + 2 * self.gap, int(widths.sum())

    def rows(self, names: Sequence[str], columns: int, *, left: int, top: int) -> tuple[LegendRow, ...]:
        """Every name's boxes in a panel whose corner lies at (left, top)."""
        rows = []
        column_left = left + self.gap
        for start, stop in pairwise([*self.starts(columns), len(names)]):
            text_left, text_top = column_left + self.indent, top + self.gap
            for index in range(start, stop):
                height, width = int(self.text_heights[index]), int(self.text_widths[index])
                # The swatch is centred on the first line: capitals reach 0.73 font sizes above its baseline.
                swatch_top = text_top + (line_height(self.font_size) - self.font_size) // 2
                swatch = (column_left, swatch_top, column_left + self.font_size, swatch_top + self.font_size)
                rows.append(
                    LegendRow(names[index], swatch, (text_left, text_top, text_left + width, text_top + height))
                )
                text_top += height
            column_left = text_left + int(self.text_widths[start:stop].max()) + 2 * self.gap
        return tuple(rows)


def _draw_rows(canvas: NDArray[np.uint8], rows: Sequence[LegendRow], colors: Sequence[Color], font_size: int) -> None:
    """Draw on `canvas`, which is the caller's own."""
    edge = max(1, font_size // 12)
    for row, color in zip(rows, colors, strict=True):
        left, top, right, bottom = row.swatch_xyxy
        canvas[top:bottom, left:right] = BORDER
        canvas[top + edge : bottom - edge, left + edge : right - edge] = color
        left, top, right, bottom = row.text_xyxy
        canvas[top:bottom, left:right] = text_block(row.name, font_size, LINE_IN_FONTS * font_size)
