"""Sheets of several pictures.

Blocks of pixels are stacked on white and the sheet grows to hold them, so that no title is cut and none overlap.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_image, check_number, check_whole
from fgseg.drawing.text import SMALLEST_FONT, font_size_for, text_block
from fgseg.errors import OptionError
from fgseg.images.resizing import shrink

__all__ = ["TITLE_IN_FONTS", "grid", "pad", "stack"]

TITLE_IN_FONTS = 14
"""The smallest width at which a title is wrapped, in font sizes: about 24 letters."""


def grid(
    panels: Sequence[tuple[str, NDArray[np.uint8]]], *, columns: int | None = None, max_side: int = 8000
) -> NDArray[np.uint8]:
    """Arrange titled pictures on one sheet, row by row.

    Args:
        panels: (title, picture) pairs, at least one; pictures (H, W, 3) uint8 RGB, of any sizes.
        columns: at least 1; None chooses the number that leaves few cells empty and brings the sheet close to 4:3.
        max_side: in pixels; if the pictures together would be longer, all of them are reduced by one factor.

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
    check_whole("columns", across, low=1, high=10**6)
    check_number("max_side", max_side, low=1, high=10**6)
    down = -(-len(panels) // across)
    sheet_side = max(height * down, width * min(across, len(panels)))
    scale = min(1.0, max_side / sheet_side)
    cell_hw = max(1, round(height * scale)), max(1, round(width * scale))
    font_size = max(SMALLEST_FONT, min(font_size_for((round(sheet_side * scale), 1)), cell_hw[1] // TITLE_IN_FONTS))
    reduced = [(title, shrink(image, max_side=max(1, round(scale * max(image.shape[:2]))))) for title, image in panels]
    rows = [_grid_row(reduced[start : start + across], cell_hw, font_size) for start in range(0, len(reduced), across)]
    gap = font_size // 2
    return pad(stack(rows, axis=0, gap=gap), gap, gap, gap, gap)


def _grid_row(
    panels: Sequence[tuple[str, NDArray[np.uint8]]], cell_hw: tuple[int, int], font_size: int
) -> NDArray[np.uint8]:
    """Cells of one width, with the tops of their pictures in one row of pixels."""
    width = max(cell_hw[1], TITLE_IN_FONTS * font_size)
    titles = [text_block(title, font_size, width) for title, _ in panels]
    heading = max(len(title) for title in titles)
    cells = []
    for title, (_, image) in zip(titles, panels, strict=True):
        # A title with fewer lines than its neighbours stands directly on its picture.
        cell = stack([pad(title, top=heading - len(title)), image], axis=0, gap=0)
        cells.append(pad(cell, right=max(0, width - cell.shape[1])))
    return stack(cells, axis=1, gap=font_size // 2)


def _columns_near_4_3(count: int, height: int, width: int) -> int:
    def distance(columns: int) -> float:
        rows = -(-count // columns)
        # An empty cell weighs as much as the share of the sheet that a picture takes, so 4 pictures make 2 rows of 2.
        empty = (rows * columns - count) / count
        return float(abs(np.log(columns * width / (rows * height) * 3 / 4))) + empty

    return min(range(1, count + 1), key=distance)


def stack(blocks: Sequence[NDArray[np.uint8]], *, axis: int, gap: int) -> NDArray[np.uint8]:
    """Place blocks below each other (axis 0) or beside each other (axis 1) on white, aligned at the top or left."""
    sizes = np.array([block.shape[:2] for block in blocks])
    shape = sizes.max(axis=0)
    shape[axis] = sizes[:, axis].sum() + gap * (len(blocks) - 1)
    sheet = np.full((*shape, 3), 255, np.uint8)
    corner = [0, 0]
    for block in blocks:
        top, left = corner
        sheet[top : top + block.shape[0], left : left + block.shape[1]] = block
        corner[axis] += block.shape[axis] + gap
    return sheet


def pad(block: NDArray[np.uint8], top: int = 0, right: int = 0, bottom: int = 0, left: int = 0) -> NDArray[np.uint8]:
    """Add white rows and columns around a block of pixels."""
    return np.pad(block, ((top, bottom), (left, right), (0, 0)), constant_values=255)
