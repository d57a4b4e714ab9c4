"""Connected components of masks and label maps, and the holes in them."""

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from fgseg._checks import check_labels, check_mask, check_whole
from fgseg.types import UNLABELLED

__all__ = ["boxed_parts", "connected_parts", "fill_holes", "labelled_components", "remove_small", "remove_small_labels"]


def boxed_parts(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The connected parts of a mask (8-connected) and the box of each.

    No two parts of a mask have the same box: inside it one would join the left side to the right and the
    other the top to the bottom, and they would touch where they cross. A box thus names its part.

    Args:
        mask: (H, W) bool.

    Returns:
        parts: (H, W) int32, 0 outside the mask, else the number of the part from 1. Numbers carry no order.
        boxes_xyxy: (count, 4) int32, half open; row n - 1 belongs to part n.

    Raises:
        ShapeError: not a mask.

    >>> boxed_parts(np.array([[True, False, True]]))
    (array([[1, 0, 2]], dtype=int32), array([[0, 0, 1, 1],
           [2, 0, 3, 1]], dtype=int32))
    """
    check_mask("mask", mask)
    parts, stats = labelled_components(mask, connectivity=8)
    left, top = stats[1:, cv2.CC_STAT_LEFT], stats[1:, cv2.CC_STAT_TOP]
    width, height = stats[1:, cv2.CC_STAT_WIDTH], stats[1:, cv2.CC_STAT_HEIGHT]
    return parts, np.stack([left, top, left + width, top + height], axis=1)


def connected_parts(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """The connected parts of a mask; pixels that touch at a corner are connected (8-connectivity).

    Args:
        mask: (H, W) bool.

    Returns:
        parts: (H, W) int32, 0 outside the mask, else the number of the part from 1. Numbers carry no order.
        count: how many parts there are.

    Raises:
        ShapeError: not a mask.

    >>> connected_parts(np.array([[True, False, False], [False, True, False]]))
    (array([[1, 0, 0],
           [0, 1, 0]], dtype=int32), 1)
    """
    parts, boxes = boxed_parts(mask)
    return parts, len(boxes)


def remove_small(mask: NDArray[np.bool_], *, min_area: int) -> NDArray[np.bool_]:
    """The mask without its connected parts (8-connected) of fewer than `min_area` pixels.

    Args:
        mask: (H, W) bool.
        min_area: pixels a part needs to stay; 0 and 1 keep everything.

    Returns:
        (H, W) bool, a new array.

    Raises:
        ShapeError: not a mask.
        OptionError: a negative area.

    >>> remove_small(np.array([[True, True, False, True]]), min_area=2)
    array([[ True,  True, False, False]])
    """
    check_mask("mask", mask)
    _check_area("min_area", min_area)
    parts, stats = labelled_components(mask, connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= min_area
    kept[0] = False  # component 0 is what lies outside the mask
    return kept[parts]


def fill_holes(mask: NDArray[np.bool_], *, max_area: int) -> NDArray[np.bool_]:
    """The mask with its small holes filled.

    A hole is a 4-connected set of pixels outside the mask that does not reach the border of the image.

    Args:
        mask: (H, W) bool.
        max_area: pixels of the largest hole that is filled; 0 fills none.

    Returns:
        (H, W) bool, a new array.

    Raises:
        ShapeError: not a mask.
        OptionError: a negative area.

    >>> ring = np.array([[True, True, True], [True, False, True], [True, True, True]])
    >>> bool(fill_holes(ring, max_area=1).all()), bool(fill_holes(ring, max_area=0).all())
    (True, False)
    """
    check_mask("mask", mask)
    _check_area("max_area", max_area)
    outside, stats = labelled_components(~mask, connectivity=4)
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    inner = (left > 0) & (left + stats[:, cv2.CC_STAT_WIDTH] < mask.shape[1])
    inner &= (top > 0) & (top + stats[:, cv2.CC_STAT_HEIGHT] < mask.shape[0])
    filled = inner & (stats[:, cv2.CC_STAT_AREA] <= max_area)
    whole: NDArray[np.bool_] = mask | filled[outside]
    return whole


def remove_small_labels(labels: NDArray[np.int32], *, min_area: int) -> NDArray[np.int32]:
    """Labels with the small connected parts (8-connected, one class each) taken out.

    All classes are measured in one pass over the image.

    Args:
        labels: (H, W) int32, UNLABELLED where no class is.
        min_area: pixels a part needs to stay; 0 and 1 keep everything.

    Returns:
        (H, W) int32, a new array, UNLABELLED where a part went.

    Raises:
        ShapeError: `labels` is not (H, W) int32.
        OptionError: a negative area.

    >>> remove_small_labels(np.int32([[3, 3, 0, 3]]), min_area=2)
    array([[ 3,  3, -1, -1]], dtype=int32)
    """
    check_labels(labels)
    _check_area("min_area", min_area)
    if min_area <= 1:  # measuring parts costs a tenth of a segmentation
        return labels.copy()
    # skimage's 2 is OpenCV's 8
    parts = label(labels, background=UNLABELLED, connectivity=2)  # type: ignore[no-untyped-call]
    small = np.bincount(parts.ravel(), minlength=1) < min_area
    return np.where(small[parts], np.int32(UNLABELLED), labels)


def labelled_components(mask: NDArray[np.bool_], *, connectivity: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """OpenCV's components and their table of left, top, width, height, area; row 0 is outside the mask."""
    if not mask.any():  # OpenCV crashes on an image without pixels
        return np.zeros(mask.shape, np.int32), np.zeros((1, 5), np.int32)
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=connectivity)
    return parts.astype(np.int32, copy=False), stats.astype(np.int32, copy=False)


def _check_area(name: str, area: int) -> None:
    check_whole(name, area, low=0, high=np.iinfo(np.int64).max)
