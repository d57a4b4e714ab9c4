"""Tints, outlines and heatmaps over an image. The functions return new arrays and leave their arguments unchanged.

Pixels are blended in integer arithmetic, so that a picture is the same on every machine. Large images are
processed in bands of rows, so that temporary arrays stay small.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_array, check_choice, check_image, check_integers, check_mask, check_number
from fgseg.drawing.colors import COLORMAPS, Color, check_colors, color_table, to_uint8
from fgseg.errors import OptionError
from fgseg.types import UNLABELLED

__all__ = ["Base", "outline_thickness", "overlay_heatmap", "overlay_labels", "overlay_masks"]

Base = Literal["grey", "photo"]
"""What lies under a tint: the photograph without its colors, so that every color is that of a class, or as it is."""

SIDE_PER_OUTLINE = 400
"""An image whose longer side is this many outlines long shows them 2 to 3 px thick in a 1,000 px window."""
SHORT_SIDE_IN_OUTLINES = 20
"""An image whose shorter side is this many outlines long still shows what lies inside them."""
BAND_PIXELS = 2**20
"""Pixels processed at a time; the temporary arrays take 25 MB."""
LUMA = (77, 150, 29)
"""Weights of red, green and blue in grey, in 256ths (ITU-R BT.601)."""
OPAQUE = 256
"""Weight of a color that replaces the pixel. Weights are integers, so that blending is exact."""


def outline_thickness(image_hw: tuple[int, int]) -> int:
    """Thickness in pixels of the outlines on an image of this (height, width).

    The thickness grows with the longer side, up to a twentieth of the shorter side, so that outlines do not fill a
    panorama. The bound has no effect up to an aspect ratio of ten.

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
    base: Base = "grey",
) -> NDArray[np.uint8]:
    """Tint an image by class and outline each class in two tones.

    The outline is the inner boundary: it lies on the pixels of its class, in the full color of the class, with a line
    half as thick inside it, black on a light color and white on a dark one. So a black class is seen on a black
    surface. The border of the image has no outline.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) integers, index into `colors`, or `fgseg.UNLABELLED`.
        colors: one per class.
        opacity: of the tint, in [0, 1]; 0 draws the outlines only.
        outline: whether to draw outlines, `outline_thickness` wide without the inner line.
        base: "grey" draws over the image without its colors, "photo" over the image as it is.

    Returns:
        (H, W, 3) uint8 RGB; unlabelled pixels are those of the base.

    Raises:
        ShapeError: `image` or `labels` has another shape or dtype, or a label has no color.
        OptionError: a color that is not RGB, an opacity out of range, or an unknown base.

    >>> image = np.full((1, 4, 3), 100, np.uint8)
    >>> overlay_labels(image, np.array([[-1, 0, 0, 0]]), [(200, 0, 0)])[0].tolist()
    [[100, 100, 100], [200, 0, 0], [255, 255, 255], [150, 50, 50]]
    """
    check_image("image", image)
    check_array("labels", labels, image.shape[:2], hint="a label map has the height and width of the image")
    check_integers("labels", labels, low=UNLABELLED, high=len(colors) - 1, hint="give one color per class")
    check_colors(colors, len(colors))
    check_number("opacity", opacity, low=0, high=1)
    table = np.array([(0, 0, 0), *colors], np.uint8)
    out = _drawn_base(image, base)
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
    base: Base = "grey",
) -> NDArray[np.uint8]:
    """Tint an image by masks that may overlap. Later masks are blended over earlier ones.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: (H, W) bool each; read one at a time, so that a generator keeps only one mask in memory.
        colors: one per mask.
        opacity: of each tint, in [0, 1].
        outline: whether to draw the outlines of `overlay_labels`.
        base: as in `overlay_labels`.

    Returns:
        (H, W, 3) uint8 RGB; pixels in no mask are those of the base.

    Raises:
        ShapeError: `image` or a mask has another shape or dtype.
        OptionError: not one color per mask, a color that is not RGB, an opacity out of range, or an unknown base.

    >>> image = np.full((1, 4, 3), 100, np.uint8)
    >>> overlay_masks(image, [np.array([[False, True, True, True]])], [(200, 0, 0)])[0].tolist()
    [[100, 100, 100], [200, 0, 0], [255, 255, 255], [150, 50, 50]]
    """
    check_image("image", image)
    check_number("opacity", opacity, low=0, high=1)
    out = _drawn_base(image, base)
    thickness = outline_thickness(image.shape[:2]) if outline else 0
    for mask, color in zip_longest(masks, colors):
        if mask is None or color is None:
            fewer = "masks" if mask is None else "colors"
            raise OptionError(f"colors: expected as many as masks, got fewer {fewer}; palette(n) returns n colors")
        check_mask("masks", mask)
        check_array("masks", mask, image.shape[:2], hint="each mask has the height and width of the image")
        check_colors([color], 1)
        window = _window(mask, margin=_reach(thickness))
        table = np.array([(0, 0, 0), color], np.uint8)
        labels = mask[window].view(np.uint8)
        _tint(out[window], labels, table, background=0, opacity=opacity, thickness=thickness)
    return out


def overlay_heatmap(
    image: NDArray[np.uint8],
    score_map: NDArray[np.floating],
    *,
    opacity: float = 0.8,
    colormap: str = COLORMAPS[0],
    base: Base = "grey",
) -> NDArray[np.uint8]:
    """Draw a score map over an image. The map is more opaque where the score is higher.

    Args:
        image: (H, W, 3) uint8 RGB.
        score_map: (H, W) floating point presence in [0, 1].
        opacity: where the score is 1, in [0, 1]; elsewhere the opacity is multiplied by the score.
        colormap: one of `COLORMAPS`.
        base: as in `overlay_labels`.

    Returns:
        (H, W, 3) uint8 RGB; equal to the base where the score is 0.

    Raises:
        ShapeError: `image` or `score_map` has another shape or dtype, or a score lies outside [0, 1].
        OptionError: an unknown colormap or base, or an opacity out of range.

    >>> image = np.full((1, 2, 3), 100, np.uint8)
    >>> overlay_heatmap(image, np.array([[0.0, 1.0]]), opacity=1)[0].tolist()
    [[100, 100, 100], [255, 0, 255]]
    """
    check_image("image", image)
    check_array("score_map", score_map, image.shape[:2], hint="a score map has the height and width of the image")
    check_number("opacity", opacity, low=0, high=1)
    table = color_table(colormap)
    out = _drawn_base(image, base)
    for rows in _bands(image.shape[:2]):
        level = to_uint8(score_map[rows])
        weight = np.rint(level.astype(np.float32) * (opacity * OPAQUE / 255)).astype(np.uint16)
        _blend(out[rows], table[level], weight)
    return out


def _drawn_base(image: NDArray[np.uint8], base: Base) -> NDArray[np.uint8]:
    """A copy of the image, without its colors for "grey"."""
    check_choice("base", base, get_args(Base))
    out = image.copy()
    if base == "grey":
        for rows in _bands(image.shape[:2]):
            red, green, blue = (image[rows][..., channel] * np.uint16(LUMA[channel]) for channel in range(3))
            out[rows] = ((red + green + blue + OPAQUE // 2) >> 8)[..., None]
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
    """Blend `table[labels - background]` into `out`, which belongs to the caller, and draw the outlines."""
    inner_line = np.where(table @ np.array(LUMA) >= 128 * OPAQUE, 0, 255)[:, None]
    reach = _reach(thickness)
    for rows in _bands(out.shape[:2]):
        band = labels[rows]
        inside = band != background
        place = band.astype(np.intp) - background
        tint = np.take(table, place, axis=0)
        weight = np.where(inside, np.uint16(round(opacity * OPAQUE)), np.uint16(0))
        if thickness:
            # The rows next to the band decide which of its own rows lie at a boundary.
            above = min(rows.start, reach)
            near = labels[rows.start - above : rows.stop + reach]
            edges, wide = (_boundary(near, width)[above : above + len(band)] for width in (thickness, reach))
            weight[inside & wide] = OPAQUE
            line = inside & wide & ~edges
            tint[line] = inner_line[place[line]]
        _blend(out[rows], tint, weight)


def _reach(thickness: int) -> int:
    """How far an outline of this thickness and the line inside it reach into a mask, in pixels."""
    return thickness + -(-thickness // 2)


def _boundary(labels: NDArray[np.integer], thickness: int) -> NDArray[np.bool_]:
    """Pixels that have another label within `thickness` rows and columns."""
    # OpenCV filters float32, which holds every label below 2**24 exactly. Growing the one-pixel boundary gives the
    # same pixels as one large window and takes less time (8 and 11 ms per megapixel at 20 px).
    values, window = labels.astype(np.float32), np.ones((3, 3), np.uint8)
    edges: NDArray[np.bool_] = cv2.dilate(values, window) != cv2.erode(values, window)
    if thickness > 1:
        edges = cv2.dilate(edges.view(np.uint8), np.ones((2 * thickness - 1,) * 2, np.uint8)).view(np.bool_)
    return edges


def _blend(out: NDArray[np.uint8], tint: NDArray[np.uint8], weight: NDArray[np.uint16]) -> None:
    """Move `out`, which belongs to the caller, towards `tint` by weight / 256, rounded to the nearest integer."""
    # 255 * 256 + 128 fits 16 bits. Equal planes are faster than broadcasting over an axis of length three.
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
    """Rows and columns of the mask's bounding box and a margin; both are empty when the mask is empty."""
    left, top, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    if not width:
        return slice(0, 0), slice(0, 0)
    return slice(max(0, top - margin), top + height + margin), slice(max(0, left - margin), left + width + margin)
