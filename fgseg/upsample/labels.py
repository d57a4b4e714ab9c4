"""From the patch grid to pixels, bilinear. The only place that resizes score maps.

OpenCV draws single score maps (`upsample_map`); `label_map` finds the winner among many prompts without
making their maps. Both sample the grid where torch's ``interpolate(align_corners=False)`` does: pixel y of H
lies at ``(y + 0.5) * Gh / H - 0.5``, clamped to the outermost patch centres.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from fgseg.errors import ShapeError
from fgseg.upsample.argmax import compare_blocks, compare_maps, compare_stacks
from fgseg.upsample.maps import checked_scores

__all__ = ["label_map", "running_label_map"]

# What dropping prompts is taken to cost, in pixels of a map compared: on every pixel as much as five maps, and for each
# prompt two pixels a patch. It only decides which of two ways to the same labels is taken; benchmarks/speed.py times
# the way that it took.
_DROPPING_A_PIXEL, _DROPPING_A_PATCH = 5, 2


@overload
def label_map(scores: torch.Tensor, image_hw: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]: ...
@overload
def label_map(scores: NDArray[Any], image_hw: tuple[int, int]) -> tuple[NDArray[np.int32], NDArray[np.float32]]: ...
def label_map(scores: torch.Tensor | NDArray[Any], image_hw: tuple[int, int]) -> tuple[Any, Any]:
    """Which prompt wins each pixel, and its score there: the argmax of all bilinear score maps, never held.

    Between four neighbouring patch centres each score map is bilinear, so inside any block of such a cell a
    prompt that another beats at all four corners cannot win. Prompts are dropped cell by cell, again in
    smaller blocks, and what is left is compared pixel by pixel. Prompts within float32 rounding of each other
    are kept, so the result is that of comparing whole maps. Cells are worked on some at a time; memory beside the
    result is a copy of one map and the candidates of those cells: 13 MB (16 on noise) for 171 prompts from 32x48
    patches to 1080x1920, 17 MB (34 on noise) for 847 to 2160x3840. On a GPU whole maps are compared, as many at a time
    as 64 MB hold, in some three copies: few large steps instead of many small ones.

    Args:
        scores: (T, h, w) scores on patches (or on a canvas of stitched windows), any real dtype; compared in
            float32 on the tensor's device.
        image_hw: (height, width) of the picture that the grid covers edge to edge, in pixels; may be smaller
            than the grid.

    Returns:
        `labels` (H, W) int32, index of the winning prompt, the lowest on a tie; `best` (H, W) float32, its
        score. Tensors for a tensor, numpy arrays for an array.

    Raises:
        ShapeError: other axes, no prompt or patch, NaN or infinity.
        OptionError: `image_hw` is not two whole numbers of at least 1.

    Example:
        >>> labels, best = label_map(np.array([[[0.0, 1.0]], [[0.5, 0.5]]]), (1, 4))
        >>> labels, best
        (array([[1, 1, 0, 0]], dtype=int32), array([[0.5 , 0.5 , 0.75, 1.  ]], dtype=float32))
    """
    labels, best = _winners(scores, image_hw)
    return (labels, best) if isinstance(scores, torch.Tensor) else (labels.numpy(), best.numpy())


@overload
def running_label_map(
    chunks: Iterable[torch.Tensor], image_hw: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]: ...
@overload
def running_label_map(
    chunks: Iterable[NDArray[Any]], image_hw: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]: ...
def running_label_map(chunks: Iterable[Any], image_hw: tuple[int, int]) -> tuple[Any, Any]:
    """`label_map` of scores that arrive some prompts at a time, such as the canvases of stitched windows.

    Holds two label maps and two score maps beside the chunk, whatever the number of chunks.

    Args:
        chunks: (t, h, w) scores each, in prompt order; t may vary.
        image_hw: (height, width) of the picture, in pixels.

    Returns:
        `labels` and `best` as `label_map` of the chunks one after another.

    Raises:
        ShapeError: no chunk; or as `label_map`.
        OptionError: `image_hw` is not two whole numbers of at least 1.

    Example:
        >>> chunks = [np.array([[[0.0, 1.0]]]), np.array([[[0.5, 0.5]]])]
        >>> running_label_map(chunks, (1, 4))[0]
        array([[1, 1, 0, 0]], dtype=int32)
    """
    remaining = iter(chunks)
    first = next(remaining, None)
    if first is None:
        raise ShapeError("chunks: expected at least one chunk of scores (t, h, w), got none; give a prompt")
    labels, best = _winners(first, image_hw)
    seen = len(first)
    for chunk in remaining:
        later_labels, later_best = _winners(chunk, image_hw)
        # Strict: an equal score leaves the pixel to the lower index.
        labels = torch.where(later_best > best, later_labels + seen, labels)
        best = torch.maximum(best, later_best)
        seen += len(chunk)
    return (labels, best) if isinstance(first, torch.Tensor) else (labels.numpy(), best.numpy())


def _winners(scores: torch.Tensor | NDArray[Any], image_hw: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    grids, size = checked_scores(scores, image_hw)
    return _fastest(grids, size)(grids, size)


def _fastest(grids: torch.Tensor, image_hw: tuple[int, int]) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """The way to the same labels that suits the device and the sizes."""
    if grids.device.type != "cpu":
        return compare_stacks
    pixels, patches = math.prod(image_hw), math.prod(grids.shape[1:])
    saved = len(grids) * (pixels - _DROPPING_A_PATCH * patches)
    return compare_blocks if saved > _DROPPING_A_PIXEL * pixels else compare_maps
