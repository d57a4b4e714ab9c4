"""Heatmaps of many prompts: a mapping that draws itself in a notebook, and the sheet that it draws."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_array, check_image
from fgseg.drawing.colors import COLORMAPS
from fgseg.drawing.layout import color_bar, grid, heatmap_beside
from fgseg.drawing.overlay import overlay_heatmap
from fgseg.drawing.text import font_size_for
from fgseg.errors import OptionError
from fgseg.images.resizing import shrink
from fgseg.upsample.maps import shrink_map

__all__ = ["heatmap_sheet"]

PANEL_SIDE = 1024
"""Pixels; no picture of a sheet is longer."""
SHEET_SIDE = 4096
"""Pixels; about the longest side of a sheet that goes to a file."""
SMALLEST_PANEL = 96
"""Pixels; below this a heatmap shows nothing."""
HEAT_OPACITY = 0.8
"""Where presence is 1, as in `heatmap_beside`."""


def heatmap_sheet(
    image: NDArray[np.uint8],
    maps: Mapping[str, NDArray[np.float32]],
    *,
    opacity: float = HEAT_OPACITY,
    colormap: str = COLORMAPS[0],
    max_side: int = SHEET_SIDE,
) -> NDArray[np.uint8]:
    """Every prompt's presence over the image, with one color bar.

    Args:
        image: (H, W, 3) uint8 RGB.
        maps: prompt -> (H, W) presence in [0, 1], at least one; asked for one at a time.
        opacity: of a heatmap where the score is 1, in [0, 1].
        colormap: one of `fgseg.drawing.layout.COLORMAPS`.
        max_side: about the longest side of the sheet in pixels; pictures are at most 1024 and, however many there
            are, at least 96 pixels long.

    Returns:
        (H', W', 3) uint8 RGB: for one prompt the image beside its heatmap, for several a grid, the image first.

    Raises:
        ShapeError: `image` or a map are not as said.
        OptionError: no map, or an option out of range.

    >>> black = np.zeros((40, 60, 3), np.uint8)
    >>> sheet = heatmap_sheet(black, {"red": np.zeros((40, 60), np.float32)})
    >>> sheet.shape[1] > 2 * 60
    True
    """
    check_image("image", image)
    if not maps:
        raise OptionError("maps: expected at least one prompt with its score map, got none")
    across = math.ceil(math.sqrt(len(maps) + 1))
    small = shrink(image, max_side=max(SMALLEST_PANEL, min(PANEL_SIDE, max_side // across)))
    reduced = ((name, _reduced(maps[name], image, small)) for name in maps)
    if len(maps) == 1:
        ((name, score_map),) = reduced
        return heatmap_beside(small, score_map, name, opacity=opacity, colormap=colormap)
    hot = [(name, overlay_heatmap(small, score_map, opacity=opacity, colormap=colormap)) for name, score_map in reduced]
    return _with_color_bar(grid([("image", small), *hot]), picture_height=small.shape[0], colormap=colormap)


def _reduced(score_map: NDArray[np.float32], image: NDArray[np.uint8], small: NDArray[np.uint8]) -> NDArray[np.float32]:
    check_array("maps", score_map, image.shape[:2], hint="a score map has the picture's height and width")
    return shrink_map(score_map, (small.shape[0], small.shape[1]))


def _with_color_bar(sheet: NDArray[np.uint8], *, picture_height: int, colormap: str) -> NDArray[np.uint8]:
    """A sheet of heatmaps with the color bar right of it, on white."""
    font_size = font_size_for((max(sheet.shape[:2]), 1))
    bar = color_bar(height=min(sheet.shape[0], 2 * picture_height) - font_size, font_size=font_size, colormap=colormap)
    height = max(sheet.shape[0], bar.shape[0] + font_size)
    canvas = np.full((height, sheet.shape[1] + bar.shape[1] + font_size, 3), 255, np.uint8)
    canvas[: sheet.shape[0], : sheet.shape[1]] = sheet
    top, left = font_size // 2, sheet.shape[1]
    canvas[top : top + bar.shape[0], left : left + bar.shape[1]] = bar
    return canvas
