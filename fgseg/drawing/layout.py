"""Pictures of results: arrays in, RGB out, arguments left as they were.

Here pictures are put together: a heatmap beside its photograph, a grid of many. Blocks of pixels are stacked
on white paper and the sheet grows to hold them, so no title can be cut or overlap. The parts come from
`colors`, `overlay`, `legend` and `lettering`; their public names are repeated here.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_image, check_number
from fgseg.drawing.colors import COLORMAPS, Color, colorize, palette, to_uint8
from fgseg.drawing.legend import LegendLayout, LegendRow, legend, legend_layout, with_legend
from fgseg.drawing.overlay import outline_thickness, overlay_heatmap, overlay_labels, overlay_masks
from fgseg.drawing.text import SMALLEST_FONT, font_size_for, font_size_within, line_height, text_block, text_width
from fgseg.errors import OptionError
from fgseg.images.resizing import shrink

__all__ = [
    "COLORMAPS",
    "Color",
    "LegendLayout",
    "LegendRow",
    "color_bar",
    "colorize",
    "grid",
    "heatmap_beside",
    "legend",
    "legend_layout",
    "outline_thickness",
    "overlay_heatmap",
    "overlay_labels",
    "overlay_masks",
    "palette",
    "shrink",
    "to_uint8",
    "with_legend",
]

PAPER = 255
TITLE_IN_FONTS = 14
"""A title is never wrapped more narrowly than this many font sizes: about 24 letters."""
BAR_IN_LINES = 6
"""Least height of a color bar in lines of text: its word, three ticks and room between them."""
STACKED_FROM = 2.5
"""Pictures this many times wider than high stand above, not beside, their heatmap."""


def heatmap_beside(
    image: NDArray[np.uint8],
    score_map: NDArray[np.floating],
    title: str,
    *,
    opacity: float = 0.8,
    colormap: str = "viridis",
) -> NDArray[np.uint8]:
    """Photograph, the same under its heatmap, and a color bar of presence; the title above.

    A picture more than 2.5 times as wide as high stands above its heatmap instead of beside it.

    Args:
        image: (H, W, 3) uint8 RGB.
        score_map: (H, W) floating point presence in [0, 1].
        title: usually the prompt; wrapped, never cut.
        opacity: of the heatmap where the score is 1, as in `overlay_heatmap`.
        colormap: one of `fgseg.drawing.layout.COLORMAPS`.

    Returns:
        (H', W', 3) uint8 RGB on white; both pictures keep their pixels.

    Raises:
        ShapeError: `image` or `score_map` are not as said.
        OptionError: unknown colormap, or an opacity out of range.

    >>> sheet = heatmap_beside(np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60)), "red cup")
    >>> sheet.shape[0] > 40, sheet.shape[1] > 2 * 60
    (True, True)
    """
    hot = overlay_heatmap(image, score_map, opacity=opacity, colormap=colormap)
    height, width = image.shape[:2]
    font_size = font_size_within((height, width))
    gap = font_size // 2
    pair = _stack([image, hot], axis=0 if width > STACKED_FROM * height else 1, gap=gap)
    bar = color_bar(height=pair.shape[0], font_size=font_size, colormap=colormap)
    body = _stack([pair, bar], axis=1, gap=gap)
    heading = text_block(title, font_size, max(body.shape[1], TITLE_IN_FONTS * font_size))
    return _framed(_stack([heading, body], axis=0, gap=0), gap)


def color_bar(*, height: int, font_size: int, colormap: str = "viridis") -> NDArray[np.uint8]:
    """The color bar of presence: its word, then the colors from 1 at the top to 0, ticks at 1, 0.5 and 0.

    Args:
        height: in pixels; more where the ticks need it.
        font_size: in pixels.
        colormap: one of `fgseg.drawing.layout.COLORMAPS`.

    Returns:
        (H, W, 3) uint8 RGB on white, H >= height.

    Raises:
        OptionError: unknown colormap, or a font size out of range.

    >>> color_bar(height=200, font_size=13).shape[0]
    200
    """
    line = line_height(font_size)
    heading = text_block("presence", font_size, 100 * font_size)
    rows = max(height, BAR_IN_LINES * line) - line
    ramp_rows, gap = rows - line, font_size // 2
    scores = np.linspace(1, 0, ramp_rows)[:, None]
    body = np.full((rows, font_size + gap + text_width("0.5", font_size), 3), PAPER, np.uint8)
    top = line // 2
    body[top : top + ramp_rows, :font_size] = colorize(np.repeat(scores, font_size, axis=1), colormap=colormap)
    for score in (1, 0.5, 0):
        label = text_block(f"{score:g}", font_size, 100 * font_size)
        start = round((1 - score) * ramp_rows)
        body[start : start + line, font_size + gap : font_size + gap + label.shape[1]] = label
    return _stack([heading, body], axis=0, gap=0)


def grid(
    panels: Sequence[tuple[str, NDArray[np.uint8]]], *, columns: int | None = None, max_side: int = 8000
) -> NDArray[np.uint8]:
    """Many titled pictures on one sheet, row by row.

    Args:
        panels: (title, picture) pairs, at least one; pictures (H, W, 3) uint8 RGB, of any sizes.
        columns: at least 1; None takes the number that leaves few places empty and brings the sheet close to
            4:3.
        max_side: pictures are reduced by one factor when together they would be longer than this, in pixels.

    Returns:
        (H', W', 3) uint8 RGB on white; titles are wrapped above their pictures.

    Raises:
        ShapeError: a picture that is not an RGB image.
        OptionError: no panel, or a number out of range.

    >>> black = np.zeros((40, 60, 3), np.uint8)
    >>> sheet = grid([("red", black), ("blue", black), ("green", black)], columns=2)
    >>> sheet.shape[0] > 80, sheet.shape[1] > 120
    (True, True)
    """
    if not panels:
        raise OptionError("panels: expected at least one (title, picture) pair, got none")
    for _, image in panels:
        check_image("panels", image)
    height, width = (max(image.shape[axis] for _, image in panels) for axis in (0, 1))
    across = _columns_near_4_3(len(panels), height, width) if columns is None else columns
    check_number("columns", across, low=1, high=10**6)
    check_number("max_side", max_side, low=1, high=10**6)
    down = -(-len(panels) // across)
    sheet_side = max(height * down, width * min(across, len(panels)))
    scale = min(1.0, max_side / sheet_side)
    cell_hw = max(1, round(height * scale)), max(1, round(width * scale))
    font_size = max(SMALLEST_FONT, min(font_size_for((round(sheet_side * scale), 1)), cell_hw[1] // TITLE_IN_FONTS))
    reduced = [(title, shrink(image, max_side=max(1, round(scale * max(image.shape[:2]))))) for title, image in panels]
    rows = [_grid_row(reduced[start : start + across], cell_hw, font_size) for start in range(0, len(reduced), across)]
    return _framed(_stack(rows, axis=0, gap=font_size // 2), font_size // 2)


def _grid_row(
    panels: Sequence[tuple[str, NDArray[np.uint8]]], cell_hw: tuple[int, int], font_size: int
) -> NDArray[np.uint8]:
    """Cells of one width, their pictures on one line below the titles."""
    width = max(cell_hw[1], TITLE_IN_FONTS * font_size)
    titles = [text_block(title, font_size, width) for title, _ in panels]
    heading = max(title.shape[0] for title in titles)
    cells = []
    for title, (_, image) in zip(titles, panels, strict=True):
        # The title stands on its picture, also where its neighbours' take more lines.
        lowered = np.pad(title, ((heading - title.shape[0], 0), (0, 0), (0, 0)), constant_values=PAPER)
        cells.append(_widened(_stack([lowered, image], axis=0, gap=0), width))
    return _stack(cells, axis=1, gap=font_size // 2)


def _columns_near_4_3(count: int, height: int, width: int) -> int:
    def distance(columns: int) -> float:
        rows = -(-count // columns)
        # An empty place weighs as much as a picture's share of the sheet, so 4 pictures stand 2 by 2.
        empty = (rows * columns - count) / count
        return float(abs(np.log(columns * width / (rows * height) * 3 / 4))) + empty

    return min(range(1, count + 1), key=distance)


def _stack(blocks: Sequence[NDArray[np.uint8]], *, axis: int, gap: int) -> NDArray[np.uint8]:
    """Blocks below (axis 0) or beside (axis 1) each other on white, aligned at the top or left."""
    sizes = np.array([block.shape[:2] for block in blocks])
    shape = sizes.max(axis=0)
    shape[axis] = sizes[:, axis].sum() + gap * (len(blocks) - 1)
    sheet = np.full((*shape, 3), PAPER, np.uint8)
    corner = [0, 0]
    for block in blocks:
        top, left = corner
        sheet[top : top + block.shape[0], left : left + block.shape[1]] = block
        corner[axis] += block.shape[axis] + gap
    return sheet


def _widened(block: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    missing = max(0, width - block.shape[1])
    return np.pad(block, ((0, 0), (0, missing), (0, 0)), constant_values=PAPER)


def _framed(sheet: NDArray[np.uint8], margin: int) -> NDArray[np.uint8]:
    return np.pad(sheet, ((margin, margin), (margin, margin), (0, 0)), constant_values=PAPER)
