"""Legends: the names and colors of classes, beside or below a picture.

Long names are wrapped and the panel grows; no name is shortened.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_image
from fgseg.drawing.colors import Color, check_colors
from fgseg.drawing.layout import pad, stack
from fgseg.drawing.text import font_size_within, line_height, text_block

__all__ = ["legend_panel", "with_legend"]

LINE_IN_FONTS = 20
"""Names are wrapped at this many font sizes: about 35 letters."""
BORDER = 96
"""Grey level of the border of a swatch."""


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
    if not names:
        return image.copy()
    panel, axis = legend_panel((image.shape[0], image.shape[1]), names, colors)
    return stack([image, panel], axis=axis, gap=0)


def legend_panel(
    image_hw: tuple[int, int], names: Sequence[str], colors: Sequence[Color]
) -> tuple[NDArray[np.uint8], int]:
    """The legend of a picture, and the axis along which it follows the picture: 0 is below it, 1 is beside it.

    The side and the number of columns are those that give the canvas with the shortest longer side, and among those
    the smallest canvas. The font size is `fgseg.drawing.text.font_size_within` of the picture.

    Args:
        image_hw: (height, width) of the picture in pixels.
        names: class names of any length, at least one.
        colors: one per name.

    >>> legend_panel((48, 64), ["red", "blue circle"], [(255, 0, 0), (0, 0, 255)])[1]
    0
    """
    font_size = font_size_within(image_hw)
    gap = max(4, font_size // 2)
    entries = [_entry(name, color, font_size, gap) for name, color in zip(names, colors, strict=True)]
    entries_hw = np.array([entry.shape[:2] for entry in entries])
    axis, per_column = _arrangement(image_hw, entries_hw, gap)
    starts = range(0, len(entries), per_column)
    columns = [stack(entries[start : start + per_column], axis=0, gap=0) for start in starts]
    return pad(stack(columns, axis=1, gap=2 * gap), gap, gap, gap, gap), axis


def _entry(name: str, color: Color, font_size: int, gap: int) -> NDArray[np.uint8]:
    """A swatch and the wrapped name beside it."""
    entry = pad(text_block(name, font_size, LINE_IN_FONTS * font_size), left=font_size + gap)
    # The swatch is centred on the first line: capitals reach 0.73 font sizes above the baseline.
    top = (line_height(font_size) - font_size) // 2
    swatch = entry[top : top + font_size, :font_size]
    swatch[:] = BORDER
    border = max(1, font_size // 12)
    swatch[border:-border, border:-border] = color
    return entry


def _arrangement(image_hw: tuple[int, int], entries_hw: NDArray[np.int64], gap: int) -> tuple[int, int]:
    """The axis of `legend_panel`, and the number of entries in a column."""
    (height, width), count = image_hw, len(entries_hw)
    choices = []
    for columns in sorted({-(-count // rows) for rows in range(1, count + 1)}):
        per_column = -(-count // columns)
        starts = np.arange(0, count, per_column)
        panel_h = int(np.add.reduceat(entries_hw[:, 0], starts).max()) + 2 * gap
        panel_w = int((np.maximum.reduceat(entries_hw[:, 1], starts) + 2 * gap).sum())
        choices.append((0, per_column, (height + panel_h, max(width, panel_w))))
        choices.append((1, per_column, (max(height, panel_h), width + panel_w)))
    axis, per_column, _ = min(choices, key=lambda choice: (max(choice[2]), prod(choice[2])))
    return axis, per_column
