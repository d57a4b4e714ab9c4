"""A result at the size it is shown in, and boxes on it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fgseg.errors import OptionError
from fgseg.images.resizing import shrink
from fgseg.segmentation.result import Segmentation
from fgseg.types import LazyMaps
from fgseg.upsample.maps import shrink_map

__all__ = ["SCREEN_SIDE", "box_window", "screen_copy"]

SCREEN_SIDE = 1024  # pixels; the longer side of what a browser is sent


def screen_copy(result: Segmentation, *, max_side: int = SCREEN_SIDE) -> Segmentation:
    """The result on fewer pixels, with masks and score maps that are held instead of computed when asked for.

    Args:
        result: of any size.
        max_side: pixels of the longer side.

    Returns:
        The same classes: labels and masks of the nearest pixel, scores averaged, kept in half precision (3 digits).
    """
    image = shrink(result.image, max_side=max_side)
    screen_hw = image.shape[0], image.shape[1]
    nearest = np.ix_(*(_nearest(*lengths) for lengths in zip(result.labels.shape, screen_hw, strict=True)))
    labels = result.labels[nearest]
    maps = [shrink_map(score_map, screen_hw).astype(np.float16) for score_map in result.scores.values()]
    if result.mode == "exclusive":
        masks = LazyMaps(result.classes, lambda index: labels == index)
    else:
        held = [mask[nearest] for mask in result.masks.values()]
        masks = LazyMaps(result.classes, lambda index: held[index])
    scores = LazyMaps(result.classes, lambda index: maps[index].astype(np.float32))
    return replace(result, image=image, labels=labels, masks=masks, scores=scores)


def box_window(box: Sequence[float], image_hw: tuple[int, ...]) -> tuple[slice, slice]:
    """The pixels that a box touches, at least one.

    Args:
        box: (left, top, right, bottom) as shares of width and height, in [0, 1]; a point has no extent.
        image_hw: (height, width) in pixels.

    Returns:
        Slices of rows and of columns.

    Raises:
        OptionError: not such a box.

    >>> box_window((0.5, 0.0, 0.5, 1.0), (10, 20))
    (slice(0, 10, None), slice(10, 11, None))
    """
    is_box = len(box) == 4 and all(isinstance(side, (int, float)) and 0 <= side <= 1 for side in box)
    if not (is_box and box[0] <= box[2] and box[1] <= box[3]):
        raise OptionError(f"box: expected left <= right and top <= bottom, all from 0 to 1, got {list(box)!r:.80}")
    left, top, right, bottom = box
    return _touched(top, bottom, image_hw[0]), _touched(left, right, image_hw[1])


def _nearest(length: int, wanted: int) -> NDArray[np.intp]:
    """The pixels of an axis whose centres are nearest to those of a shorter one."""
    return ((np.arange(wanted) + 0.5) * (length / wanted)).astype(np.intp)


def _touched(start: float, stop: float, length: int) -> slice:
    first = min(int(start * length), length - 1)
    return slice(first, max(first + 1, int(np.ceil(stop * length))))
