"""Sheets of heatmaps: an image under the presence of each prompt, with a color bar."""

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_array, check_whole
from fgseg.drawing.colors import COLORMAPS
from fgseg.drawing.layout import TITLE_IN_FONTS, grid, pad, stack
from fgseg.drawing.overlay import Base, overlay_heatmap
from fgseg.drawing.text import font_size_for, font_size_within, line_height, text_block, text_width
from fgseg.errors import OptionError
from fgseg.images.resizing import shrink
from fgseg.upsample.maps import shrink_map

__all__ = ["heatmap_sheet"]

Draw = Callable[[NDArray[np.uint8], NDArray[np.floating]], NDArray[np.uint8]]
"""Draws a score map over an image."""

PANEL_SIDE = 1024
"""The longest side of a picture on a sheet, in pixels."""
SHEET_SIDE = 4096
"""About the longest side of a sheet that is written to a file, in pixels."""
SMALLEST_PANEL = 96
"""Pixels; a smaller heatmap shows no detail."""
STACKED_FROM = 2.5
"""An image with a larger ratio of width to height is placed above its heatmap, not beside it."""
MID_GREY = 128
"""Under the color bar: about the mean of a photograph, so that its colors are those of the heatmaps."""
BAR_IN_LINES = 6
"""The smallest height of a color bar, in lines of text: its heading, three ticks and space between them."""


def heatmap_sheet(
    image: NDArray[np.uint8],
    maps: Mapping[str, NDArray[np.float32]],
    *,
    opacity: float = 0.8,
    colormap: str = COLORMAPS[0],
    columns: int | None = None,
    max_side: int = SHEET_SIDE,
    base: Base = "grey",
) -> NDArray[np.uint8]:
    """Draw the presence of every prompt over the image, with one color bar.

    Args:
        image: (H, W, 3) uint8 RGB.
        maps: prompt -> (H, W) presence in [0, 1], at least one; read one at a time.
        opacity: of a heatmap where the score is 1, in [0, 1].
        colormap: one of `fgseg.drawing.COLORMAPS`.
        columns: of a sheet of several prompts, as in `grid`.
        max_side: about the longest side of the sheet in pixels; each picture is from 96 to 1024 pixels long.
        base: what lies under the heatmaps, as in `overlay_labels`.

    Returns:
        (H', W', 3) uint8 RGB: for one prompt the image and its heatmap, side by side or one above the other; for
        several prompts a grid that starts with the image.

    Raises:
        ShapeError: `image` or a map has another shape or dtype, or a score lies outside [0, 1].
        OptionError: no map, or an option out of range.

    >>> black = np.zeros((40, 60, 3), np.uint8)
    >>> sheet = heatmap_sheet(black, {"red": np.zeros((40, 60), np.float32)})
    >>> sheet.shape[1] > 2 * 60
    True
    """
    if not maps:
        raise OptionError("maps: expected at least one prompt with its score map, got none")
    across = math.ceil(math.sqrt(len(maps) + 1)) if columns is None else min(columns, len(maps) + 1)
    check_whole("columns", across, low=1, high=10**6)
    cells = max(across, -(-(len(maps) + 1) // across))
    small = shrink(image, max_side=max(SMALLEST_PANEL, min(PANEL_SIDE, max_side // cells)))
    draw = partial(overlay_heatmap, opacity=opacity, colormap=colormap)
    heatmaps = [(name, draw(small, _reduced(maps[name], image, small), base=base)) for name in maps]
    if len(maps) == 1:
        return _pair(small, *heatmaps[0], draw)
    return _with_color_bar(grid([("image", small), *heatmaps], columns=columns), len(small), draw)


def _reduced(score_map: NDArray[np.float32], image: NDArray[np.uint8], small: NDArray[np.uint8]) -> NDArray[np.float32]:
    check_array("maps", score_map, image.shape[:2], hint="a score map has the height and width of the image")
    return shrink_map(score_map, (small.shape[0], small.shape[1]))


def _pair(image: NDArray[np.uint8], title: str, heatmap: NDArray[np.uint8], draw: Draw) -> NDArray[np.uint8]:
    """An image, its heatmap and a color bar, with a title above them."""
    height, width = image.shape[:2]
    font_size = font_size_within((height, width))
    gap = font_size // 2
    pictures = stack([image, heatmap], axis=0 if width > STACKED_FROM * height else 1, gap=gap)
    body = stack([pictures, _color_bar(len(pictures), font_size, draw)], axis=1, gap=gap)
    heading = text_block(title, font_size, max(body.shape[1], TITLE_IN_FONTS * font_size))
    return pad(stack([heading, body], axis=0, gap=0), gap, gap, gap, gap)


def _with_color_bar(sheet: NDArray[np.uint8], picture_height: int, draw: Draw) -> NDArray[np.uint8]:
    """Place the color bar to the right of a sheet of heatmaps."""
    font_size = font_size_for((max(sheet.shape[:2]), 1))
    bar = _color_bar(min(len(sheet), 2 * picture_height) - font_size, font_size, draw)
    margin = font_size // 2
    return stack([sheet, pad(bar, top=margin, right=font_size, bottom=font_size - margin)], axis=1, gap=0)


def _color_bar(height: int, font_size: int, draw: Draw) -> NDArray[np.uint8]:
    """A heading, the scores from 1 at the top to 0 over mid-grey, and ticks at 1, 0.5 and 0; as high as these need."""
    line = line_height(font_size)
    heading = text_block("presence", font_size, 100 * font_size)
    rows = max(height, BAR_IN_LINES * line) - line
    ramp_rows, gap = rows - line, font_size // 2
    scores = np.linspace(1, 0, ramp_rows)[:, None]
    body = np.full((rows, font_size + gap + text_width("0.5", font_size), 3), 255, np.uint8)
    top = line // 2
    grey = np.full((ramp_rows, font_size, 3), MID_GREY, np.uint8)
    body[top : top + ramp_rows, :font_size] = draw(grey, np.repeat(scores, font_size, axis=1))
    for score in (1, 0.5, 0):
        label = text_block(f"{score:g}", font_size, 100 * font_size)
        start = round((1 - score) * ramp_rows)
        body[start : start + line, font_size + gap : font_size + gap + label.shape[1]] = label
    return stack([heading, body], axis=0, gap=0)
