"""Pictures under tints, outlines and heatmaps: arrays in, RGB out, arguments left as they were.

Pixels are blended in whole numbers, so a picture is the same on every machine. Large pictures are worked
through in bands of rows, so memory beside the result stays small.
"""

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_array, check_image, check_mask, check_number, describe
from fgseg.drawing.colors import Color, check_colors, color_table, to_uint8
from fgseg.errors import OptionError, ShapeError
from fgseg.types import UNLABELLED

__all__ = ["outline_thickness", "overlay_heatmap", "overlay_labels", "overlay_masks"]

SIDE_PER_OUTLINE = 400
"""A picture this many outlines long shows them 2 to 3 px thick in a 1,000 px window."""
SHORT_SIDE_IN_OUTLINES = 20
"""A picture this many outlines high still shows what lies inside them; all but panoramas are higher."""
BAND_PIXELS = 2**20
"""Pixels worked on at a time: 25 MB of temporaries."""
OPAQUE = 256
"""Weight of a color that replaces the pixel; weights are whole numbers so that blending is exact."""


def outline_thickness(image_hw: tuple[int, int]) -> int:
    """Thickness in pixels of the outlines on a picture of this (height, width).

    It grows with the longer side, up to a twentieth of the shorter one, so that outlines do not fill a panorama.
    Up to ten times as long as high that bound changes nothing.

    >>> outline_thickness((480, 640)), outline_thickness((6000, 8000)), outline_thickness((100, 20_000))
    (2, 20, 5)
    """
    return max(1, min(-(-max(image_hw) // SIDE_PER_OUTLINE), min(image_hw) // SHORT_SIDE_IN_OUTLINES))


def overlay_labels(
    image: NDArray[np.uint8],
    labels: NDArray[np.integer],
    colors: Sequence[Color],
    *,
    opacity: float = 0.5,
    outline: bool = True,
) -> NDArray[np.uint8]:
    """A picture tinted by class, each class outlined in its full color.

    The outline is the inner boundary: it never leaves the class's pixels; the picture's own border gets none.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) integers, index into `colors`, or `fgseg.UNLABELLED`.
        colors: one a class.
        opacity: of the tint, in [0, 1]; 0 leaves the outlines alone.
        outline: whether to draw outlines, `outline_thickness` wide.

    Returns:
        (H, W, 3) uint8 RGB; unlabelled pixels are those of `image`.

    Raises:
        ShapeError: `image` or `labels` are not as said.
        OptionError: a label without a color, a color that is not RGB, an opacity out of range.

    >>> image = np.full((1, 3, 3), 100, np.uint8)
    >>> overlay_labels(image, np.array([[-1, 0, 0]]), [(200, 0, 0)])[0].tolist()
    [[100, 100, 100], [200, 0, 0], [150, 50, 50]]
    """
    check_image("image", image)
    _check_labels(labels, image.shape[:2], len(colors))
    check_colors(colors, len(colors))
    check_number("opacity", opacity, low=0, high=1)
    table = np.array([(0, 0, 0), *colors], np.uint8)
    out = image.copy()
    thickness = outline_thickness(image.shape[:2]) if outline else 0
    _tint(out, labels, table, background=UNLABELLED, opacity=opacity, thickness=thickness)
    return out


def overlay_masks(
    image: NDArray[np.uint8],
    masks: Iterable[NDArray[np.bool_]],
    colors: Iterable[Color],
    *,
    opacity: float = 0.5,
    outline: bool = True,
) -> NDArray[np.uint8]:
    """A picture tinted by masks that may overlap; later ones are blended over earlier ones.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: (H, W) bool each; taken one at a time, so a generator holds one in memory.
        colors: one a mask.
        opacity: of each tint, in [0, 1].
        outline: whether to draw inner outlines, `outline_thickness` wide.

    Returns:
        (H, W, 3) uint8 RGB; pixels in no mask are those of `image`.

    Raises:
        ShapeError: `image` or a mask are not as said.
        OptionError: more masks than colors or fewer, a color that is not RGB, an opacity out of range.

    >>> image = np.full((1, 3, 3), 100, np.uint8)
    >>> overlay_masks(image, [np.array([[False, True, True]])], [(200, 0, 0)])[0].tolist()
    [[100, 100, 100], [200, 0, 0], [150, 50, 50]]
    """
    check_image("image", image)
    check_number("opacity", opacity, low=0, high=1)
    out = image.copy()
    thickness = outline_thickness(image.shape[:2]) if outline else 0
    for mask, color in _pairs(masks, colors):
        check_mask("masks", mask)
        check_array("masks", mask, image.shape[:2], hint="each mask has the picture's height and width")
        check_colors([color], 1)
        window = _window(mask, margin=thickness)
        table = np.array([(0, 0, 0), color], np.uint8)
        _tint(
            out[window],
            mask[window].view(np.uint8),
            table,
            background=0,
            opacity=opacity,
            thickness=thickness,
        )
    return out


def overlay_heatmap(
    image: NDArray[np.uint8],
    score_map: NDArray[np.floating],
    *,
    opacity: float = 0.8,
    colormap: str = "viridis",
) -> NDArray[np.uint8]:
    """A picture under a score map, the more opaque the higher the score: where nothing is, the photograph.

    Args:
        image: (H, W, 3) uint8 RGB.
        score_map: (H, W) floating point presence in [0, 1].
        opacity: where the score is 1, in [0, 1]; elsewhere it is opacity times score.
        colormap: one of `COLORMAPS`.

    Returns:
        (H, W, 3) uint8 RGB; equal to `image` where the score is 0.

    Raises:
        ShapeError: `image` or `score_map` are not as said.
        OptionError: unknown colormap, or an opacity out of range.

    >>> image = np.full((1, 2, 3), 100, np.uint8)
    >>> overlay_heatmap(image, np.array([[0.0, 1.0]]), opacity=1)[0].tolist()
    [[100, 100, 100], [253, 231, 36]]
    """
    check_image("image", image)
    check_array("score_map", score_map, image.shape[:2], hint="a score map has the picture's height and width")
    check_number("opacity", opacity, low=0, high=1)
    table = color_table(colormap)
    out = image.copy()
    for rows in _bands(image.shape[:2]):
        level = to_uint8(score_map[rows])
        weight = np.rint(level.astype(np.float32) * (opacity * OPAQUE / 255)).astype(np.uint16)
        _blend(out[rows], table[level], weight)
    return out


def _tint(
    out: NDArray[np.uint8],
    labels: NDArray[np.integer],
    table: NDArray[np.uint8],
    *,
    background: int,
    opacity: float,
    thickness: int,
) -> None:
    """Blend `table[labels - background]` into `out`, which is the caller's own copy."""
    for rows in _bands(out.shape[:2]):
        part = labels[rows]
        inside = part != background
        weight = np.where(inside, np.uint16(round(opacity * OPAQUE)), np.uint16(0))
        if thickness:
            # Rows beyond the band decide whether its own are at a boundary.
            above = min(rows.start, thickness)
            edges = _boundary(labels[rows.start - above : rows.stop + thickness], thickness)
            weight[inside & edges[above : above + len(part)]] = OPAQUE
        tint = np.take(table, part.astype(np.intp) - background, axis=0)
        _blend(out[rows], tint, weight)


def _boundary(labels: NDArray[np.integer], thickness: int) -> NDArray[np.bool_]:
    """Pixels with another label no farther than `thickness` rows and columns.

    A pixel is one exactly when a pixel within thickness - 1 has a different direct or diagonal neighbour, so
    comparing neighbours once and growing the result gives the same as looking that far.
    """
    edges = np.zeros(labels.shape, np.uint8)
    here, there = slice(None, -1), slice(1, None)
    everywhere = slice(None)
    pairs = [
        ((here, everywhere), (there, everywhere)),
        ((everywhere, here), (everywhere, there)),
        ((here, here), (there, there)),
        ((here, there), (there, here)),
    ]
    for first, second in pairs:
        differs = labels[first] != labels[second]
        edges[first] |= differs
        edges[second] |= differs
    if thickness > 1:
        edges = np.asarray(cv2.dilate(edges, np.ones((2 * thickness - 1, 2 * thickness - 1), np.uint8)), np.uint8)
    return edges.view(np.bool_)


def _blend(out: NDArray[np.uint8], tint: NDArray[np.uint8], weight: NDArray[np.uint16]) -> None:
    """Move `out` towards `tint` by weight / 256, rounding to nearest; `out` is the caller's own copy."""
    # 255 * 256 + 128 still fits 16 bits. Equal planes are quicker than broadcasting over an axis of three.
    planes = np.repeat(weight, 3).reshape(out.shape)
    mixed = out.astype(np.uint16)
    mixed *= OPAQUE - planes
    mixed += tint * planes
    mixed += OPAQUE // 2
    mixed >>= 8
    out[...] = mixed


def _bands(image_hw: tuple[int, ...]) -> Iterator[slice]:
    height, width = image_hw
    step = max(1, BAND_PIXELS // max(1, width))
    for start in range(0, height, step):
        yield slice(start, min(start + step, height))


def _window(mask: NDArray[np.bool_], *, margin: int) -> tuple[slice, slice]:
    """The part of the picture that holds the mask and a margin; of size zero when the mask is empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    top, left = max(0, rows[0] - margin), max(0, columns[0] - margin)
    return slice(top, rows[-1] + 1 + margin), slice(left, columns[-1] + 1 + margin)


def _pairs(masks: Iterable[NDArray[np.bool_]], colors: Iterable[Color]) -> Iterator[tuple[NDArray[np.bool_], Color]]:
    left, right = iter(masks), iter(colors)
    end = object()
    while True:
        mask, color = next(left, end), next(right, end)
        if mask is end and color is end:
            return
        if mask is end or color is end:
            few = "masks" if mask is end else "colors"
            raise OptionError(f"colors: expected as many as masks, got fewer {few}; palette(n) makes n colors")
        yield mask, color  # type: ignore[misc]


def _check_labels(labels: NDArray[np.integer], image_hw: tuple[int, ...], count: int) -> None:
    check_array("labels", labels, image_hw, hint="a label map has the picture's height and width")
    if not (isinstance(labels, np.ndarray) and np.issubdtype(labels.dtype, np.integer)):
        raise ShapeError(f"labels: expected integers, got {describe(labels)}")
    low, high = int(labels.min()), int(labels.max())
    if low < UNLABELLED or high >= count:
        raise OptionError(
            f"labels: expected {UNLABELLED} to {count - 1} for {count} colors, got {low} to {high}; "
            "give one color a class"
        )
