"""Score maps on pixels from scores on patches, drawn by OpenCV.

`upsample` is the only package that resizes score maps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fgseg._checks import check_array, check_size, describe
from fgseg.errors import ShapeError
from fgseg.upsample.argmax import axes, sample
from fgseg.upsample.tensors import Values, float32_tensor

__all__ = ["checked_scores", "draw_map", "shrink_map", "upsample_map", "upsample_maps"]


def upsample_map(score_map_on_grid: NDArray[Any], image_hw: tuple[int, int]) -> NDArray[np.float32]:
    """One prompt's scores on every pixel, by OpenCV.

    Args:
        score_map_on_grid: (Gh, Gw) scores on patches, any real dtype; computed in float32.
        image_hw: (height, width) of the image that the grid covers edge to edge, in pixels.

    Returns:
        (H, W) float32 score map, never outside the range of the input by more than rounding.

    Raises:
        ShapeError: another number of axes, no patch, or NaN or infinity (one such patch would spread to the
            pixels of all its neighbours).
        OptionError: `image_hw` is not two whole numbers of at least 1.

    Example:
        >>> upsample_map(np.array([[0.0, 1.0]]), (1, 4))
        array([[0.  , 0.25, 0.75, 1.  ]], dtype=float32)
    """
    grid = _checked_map("score_map_on_grid", score_map_on_grid)
    return draw_map(grid, check_size("image_hw", image_hw))


def upsample_maps(scores: Values, image_hw: tuple[int, int]) -> Iterator[Values]:
    """The score map of each prompt in turn; one of them is held, O(H x W), never (T, H, W).

    Args:
        scores: (T, Gh, Gw) scores on patches.
        image_hw: (height, width) of the image that the grid covers edge to edge, in pixels.

    Returns:
        An iterator over T score maps (H, W) float32: arrays, drawn by `upsample_map`, for an array; tensors
        on its device for a tensor. The two agree within 1e-4 of the largest score: OpenCV computes positions in
        float32 (built with Intel's IPP, within 1e-6 on all but very long maps).

    Raises:
        ShapeError: other axes, no prompt or patch, NaN or infinity.
        OptionError: `image_hw` is not two whole numbers of at least 1.

    Example:
        >>> for score_map in upsample_maps(np.array([[[0.0, 1.0]], [[3.0, 3.0]]]), (1, 2)):
        ...     print(score_map)
        [[0. 1.]]
        [[3. 3.]]
    """
    grids, size = checked_scores(scores, image_hw)
    if not isinstance(scores, torch.Tensor):
        return (draw_map(grid, size) for grid in grids.numpy())
    rows, columns = axes(grids, size)
    return (sample(grid, rows, columns) for grid in grids)


def shrink_map(score_map: NDArray[Any], image_hw: tuple[int, int]) -> NDArray[np.float32]:
    """A score map on fewer pixels: the mean of the covered pixels along an axis that shrinks, else bilinear.

    Args:
        score_map: (H, W) scores, any real dtype; computed in float32.
        image_hw: (height, width) of the result, in pixels.

    Returns:
        (height, width) float32, a new array.

    Raises:
        ShapeError: another number of axes, no pixel, or NaN or infinity.
        OptionError: `image_hw` is not two whole numbers of at least 1.

    Example:
        >>> shrink_map(np.array([[0.0, 1.0, 1.0, 1.0]]), (1, 2))
        array([[0.5, 1. ]], dtype=float32)
    """
    scores = _checked_map("score_map", score_map)
    height, width = check_size("image_hw", image_hw)
    # OpenCV's area mean is like nearest-neighbour sampling along an axis that grows: shrink first, then grow.
    smaller_wh = min(width, scores.shape[1]), min(height, scores.shape[0])
    return draw_map(cv2.resize(scores, smaller_wh, interpolation=cv2.INTER_AREA), (height, width))


def checked_scores(
    scores: torch.Tensor | NDArray[Any], image_hw: tuple[int, int]
) -> tuple[torch.Tensor, tuple[int, int]]:
    """The scores as a finite float32 tensor, and the size as two whole numbers.

    Raises:
        ShapeError: not (T, Gh, Gw), empty, or not finite.
        OptionError: a size that is not (height, width).
    """
    check_array("scores", scores, ("T", "h", "w"))
    grids = float32_tensor(scores)
    # The minimum and the maximum show any NaN or infinity, in a tenth of the time of checking each value.
    if not (grids.numel() and bool(torch.stack(torch.aminmax(grids)).isfinite().all())):
        raise ShapeError(
            f"scores: expected finite scores of at least one prompt, got {_flaw(grids)}; check the features"
        )
    return grids, check_size("image_hw", image_hw)


def draw_map(grid: NDArray[Any], image_hw: tuple[int, int]) -> NDArray[np.float32]:
    """`upsample_map` without its checks, for a finite contiguous float32 map. OpenCV takes sizes as (width, height)."""
    return np.asarray(cv2.resize(grid, image_hw[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _checked_map(name: str, scores: NDArray[Any]) -> NDArray[np.float32]:
    """One map as OpenCV wants it: contiguous float32 (it raises for float16 and whole numbers)."""
    check_array(name, scores, ("H", "W"))
    contiguous = np.ascontiguousarray(scores, dtype=np.float32)
    if not (contiguous.size and np.isfinite(contiguous).all()):
        raise ShapeError(f"{name}: expected finite scores, got {_flaw(contiguous)}; check the features")
    return contiguous


def _flaw(values: torch.Tensor | NDArray[Any]) -> str:
    return describe(values) + (" with NaN or infinity" if math.prod(values.shape) else "")
