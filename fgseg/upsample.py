"""From the patch grid to pixels, bilinear. The only place that resizes score maps.

OpenCV draws single score maps (`upsample_map`); `label_map` finds the winner among many prompts without
making their maps. Both sample the grid where torch's ``interpolate(align_corners=False)`` does: pixel y of H
lies at ``(y + 0.5) * Gh / H - 0.5``, clamped to the outermost patch centres.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fgseg._checks import check_array, describe
from fgseg._winners import axes, compare_blocks, compare_maps, compare_stacks, sample
from fgseg.errors import OptionError, ShapeError

__all__ = ["label_map", "running_label_map", "shrink_map", "upsample_map", "upsample_maps"]

# What dropping prompts is taken to cost, in pixels of a map compared: on every pixel as much as five maps, and for each
# prompt two pixels a patch. It only decides which of two ways to the same labels is taken; benchmarks/speed.py times
# the way that it took.
_DROPPING_A_PIXEL, _DROPPING_A_PATCH = 5, 2


def upsample_map(score_map_on_grid: NDArray[Any], image_hw: tuple[int, int]) -> NDArray[np.float32]:
    """One prompt's scores on every pixel, by OpenCV.

    Args:
        score_map_on_grid: (Gh, Gw) scores on patches, any real dtype; computed in float32.
        image_hw: (height, width) of the picture that the grid covers edge to edge, in pixels.

    Returns:
        (H, W) float32 score map, never outside the range of the input by more than rounding.

    Raises:
        ShapeError: another number of axes, no patch, or NaN or infinity (one such patch would spread over all
            its neighbours' pixels).
        OptionError: `image_hw` is not two whole numbers of at least 1.

    Example:
        >>> upsample_map(np.array([[0.0, 1.0]]), (1, 4))
        array([[0.  , 0.25, 0.75, 1.  ]], dtype=float32)
    """
    grid = _checked_map("score_map_on_grid", score_map_on_grid)
    height, width = _check_size(image_hw)
    return np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


@overload
def upsample_maps(scores: torch.Tensor, image_hw: tuple[int, int]) -> Iterator[torch.Tensor]: ...
@overload
def upsample_maps(scores: NDArray[Any], image_hw: tuple[int, int]) -> Iterator[NDArray[np.float32]]: ...
def upsample_maps(scores: torch.Tensor | NDArray[Any], image_hw: tuple[int, int]) -> Iterator[Any]:
    """Each prompt's score map in turn; one of them is held, O(H x W), never (T, H, W).

    Args:
        scores: (T, Gh, Gw) scores on patches.
        image_hw: (height, width) of the picture that the grid covers edge to edge, in pixels.

    Returns:
        An iterator over T score maps (H, W) float32: arrays, drawn by `upsample_map`, for an array; tensors
        on its device for a tensor. The two agree within 1e-4 of the largest score: OpenCV computes positions in
        float32 (where it is built with Intel's IPP, within 1e-6 on all but very long maps).

    Raises:
        ShapeError: other axes, no prompt or patch, NaN or infinity.
        OptionError: `image_hw` is not two whole numbers of at least 1.

    Example:
        >>> for score_map in upsample_maps(np.array([[[0.0, 1.0]], [[3.0, 3.0]]]), (1, 2)):
        ...     print(score_map)
        [[0. 1.]]
        [[3. 3.]]
    """
    grids, size = _checked(scores, image_hw)
    if not isinstance(scores, torch.Tensor):
        return (upsample_map(grid, size) for grid in scores)
    rows, columns = axes(grids, size)
    return (sample(grid, rows, columns) for grid in grids)


def shrink_map(score_map: NDArray[Any], image_hw: tuple[int, int]) -> NDArray[np.float32]:
    """A score map on fewer pixels: along an axis that shrinks the mean of the pixels covered, else bilinear.

    Args:
        score_map: (H, W) scores, any real dtype; computed in float32.
        image_hw: (height, width) wanted, in pixels.

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
    height, width = _check_size(image_hw)
    # OpenCV's area mean becomes nearest-like sampling along an axis that grows: shrink first, then grow.
    smaller_wh = min(width, scores.shape[1]), min(height, scores.shape[0])
    return upsample_map(cv2.resize(scores, smaller_wh, interpolation=cv2.INTER_AREA), (height, width))


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
    grids, size = _checked(scores, image_hw)
    return _fastest(grids, size)(grids, size)


def _fastest(grids: torch.Tensor, image_hw: tuple[int, int]) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """The way to the same labels that suits the device and the sizes."""
    if grids.device.type != "cpu":
        return compare_stacks
    pixels, patches = math.prod(image_hw), math.prod(grids.shape[1:])
    saved = len(grids) * (pixels - _DROPPING_A_PATCH * patches)
    return compare_blocks if saved > _DROPPING_A_PIXEL * pixels else compare_maps


def _checked(scores: torch.Tensor | NDArray[Any], image_hw: tuple[int, int]) -> tuple[torch.Tensor, tuple[int, int]]:
    """The scores as a float32 tensor, and the size, once both were found in order."""
    check_array("scores", scores, ("T", "h", "w"))
    # An array is copied: torch warns of read-only ones.
    if isinstance(scores, torch.Tensor):
        grids = scores.detach().float()
    else:
        grids = torch.from_numpy(np.array(scores, dtype=np.float32))
    # The least and the greatest tell of any NaN or infinity, in a tenth of the time that looking at each takes.
    if not (grids.numel() and bool(torch.stack(torch.aminmax(grids)).isfinite().all())):
        raise ShapeError(f"scores: expected finite scores of a prompt or more, got {_flaw(grids)}; check the features")
    return grids, _check_size(image_hw)


def _checked_map(name: str, scores: NDArray[Any]) -> NDArray[np.float32]:
    """One map as OpenCV wants it: contiguous float32 (it raises for float16 and whole numbers)."""
    check_array(name, scores, ("H", "W"))
    contiguous = np.ascontiguousarray(scores, dtype=np.float32)
    if not (contiguous.size and np.isfinite(contiguous).all()):
        raise ShapeError(f"{name}: expected finite scores, got {_flaw(contiguous)}; check the features")
    return contiguous


def _flaw(values: torch.Tensor | NDArray[Any]) -> str:
    return describe(values) + (" with NaN or infinity" if math.prod(values.shape) else "")


def _check_size(image_hw: tuple[int, int]) -> tuple[int, int]:
    is_pair = isinstance(image_hw, Sequence) and len(image_hw) == 2
    if not (is_pair and all(isinstance(side, (int, np.integer)) and side >= 1 for side in image_hw)):
        raise OptionError(f"image_hw: expected (height, width), whole numbers of at least 1, got {image_hw!r:.100}")
    return int(image_hw[0]), int(image_hw[1])
