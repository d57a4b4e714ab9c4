"""Regions: features pooled over boxes, and the table of a mask's connected parts."""

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from fgseg._checks import check_array
from fgseg.errors import ShapeError

__all__ = ["box_features", "box_weights"]

Array = TypeVar("Array", torch.Tensor, NDArray[np.floating])

_BOXES_AT_ONCE = 256  # bounds memory at 256 weight maps of the grid; larger batches are no faster


def box_features(grid: Array, boxes_xyxy: Array) -> Array:
    """Mean feature inside each box: RoIAlign with one output cell, aligned, adaptive sampling.

    The rule of He et al., Mask R-CNN (ICCV 2017), as torchvision's `roi_align(output_size=1,
    spatial_scale=1, sampling_ratio=-1, aligned=True)` computes it and FG-CLIP was trained with: the box,
    moved by half a cell, is sampled bilinearly at the centres of ceil(height) x ceil(width) equal cells; a
    sample more than one cell outside the grid counts as 0, one nearer takes the border's value. The bilinear
    weight of a sample is the product of its weights along y and x, and so is the mean over samples: a box is
    two weight vectors.

    Args:
        grid: (Gh, Gw, D) float features of one image, tensor or array.
        boxes_xyxy: (N, 4) boxes (left, top, right, bottom) in grid cells (pixel / image side * grid side);
            they may reach outside.

    Returns:
        (N, D), the grid's kind, device and dtype, not normalised; computed in float32 or the grid's wider
        type, under autocast too. Gradients flow to the grid.

    Raises:
        ShapeError: a grid that is not three-dimensional, float and non-empty; boxes that are not (N, 4); a
            row that is not finite or whose left is not below its right, or top below its bottom.

    >>> grid = np.arange(4, dtype=np.float32).reshape(2, 2, 1)
    >>> box_features(grid, np.float32([[0, 0, 2, 2], [0, 0, 1, 1]]))
    array([[1.5],
           [0. ]], dtype=float32)
    """
    check_array("grid", grid, ("Gh", "Gw", "D"))
    check_array("boxes_xyxy", boxes_xyxy, ("N", 4), hint="one row (left, top, right, bottom) for each box")
    if isinstance(grid, torch.Tensor):
        return _pooled(grid, _tensor(boxes_xyxy).to(grid.device))
    return _pooled(_tensor(grid), _tensor(boxes_xyxy)).numpy()


def _tensor(array: torch.Tensor | NDArray[np.floating]) -> torch.Tensor:
    if isinstance(array, torch.Tensor):
        return array
    return torch.from_numpy(np.array(array))  # a copy: torch warns about an array that is read-only


def _pooled(grid: torch.Tensor, boxes_xyxy: torch.Tensor) -> torch.Tensor:
    if not (grid.is_floating_point() and grid.numel()):
        raise ShapeError(f"grid: expected float features of at least one cell, got {tuple(grid.shape)} {grid.dtype}")
    precise = torch.promote_types(grid.dtype, torch.float32)
    boxes_xyxy = boxes_xyxy.to(precise)
    _check_boxes(boxes_xyxy)
    height, width, depth = grid.shape
    cells = grid.reshape(height * width, depth).to(precise)
    pooled = []
    with torch.autocast(grid.device.type, enabled=False):
        for first in range(0, max(len(boxes_xyxy), 1), _BOXES_AT_ONCE):
            weights = box_weights(boxes_xyxy[first : first + _BOXES_AT_ONCE], (height, width))
            pooled.append(weights.flatten(1) @ cells)
    return torch.cat(pooled).to(grid.dtype)


def box_weights(boxes_xyxy: torch.Tensor, grid_hw: tuple[int, int]) -> torch.Tensor:
    """The weight of every grid cell in each box's mean, by the rule of `box_features`; for batches of grids.

    Args:
        boxes_xyxy: (N, 4) float boxes in grid cells, left below right and top below bottom (not checked here).
        grid_hw: (Gh, Gw).

    Returns:
        (N, Gh, Gw), the boxes' dtype and device, each summing to 1 for a box inside the grid.

    >>> box_weights(torch.tensor([[0.0, 0.0, 2.0, 1.0]]), (2, 2)).tolist()
    [[[0.5, 0.5], [0.0, 0.0]]]
    """
    left, top, right, bottom = boxes_xyxy.T
    down, across = _axis_weights(top, bottom, grid_hw[0]), _axis_weights(left, right, grid_hw[1])
    return down[:, :, None] * across[:, None, :]


def _axis_weights(start: torch.Tensor, end: torch.Tensor, size: int) -> torch.Tensor:
    """The weight of each cell along one axis: (N,) boxes from `start` to `end` -> (N, size)."""
    start, end = start - 0.5, end - 0.5  # aligned: cell i has its centre at i
    length = end - start
    count = length.ceil().clamp(min=1)  # at least 1 where the subtraction rounded a tiny box to nothing
    # Samples beyond one cell outside count as 0, so only the run of samples near the grid is laid out: a
    # huge box costs no more than the grid. The step is over half a cell for any box longer than a cell.
    step = (length / count).clamp(min=torch.finfo(length.dtype).tiny)
    first = ((-1 - start) / step - 1).floor().clamp(min=0).minimum(count)
    samples = int(torch.minimum(count.max(), count.new_tensor(2 * size + 8))) if len(count) else 0
    order = first[:, None] + torch.arange(samples, device=start.device)
    at = start[:, None] + (order + 0.5) * length[:, None] / count[:, None]
    share = ((at >= -1) & (at <= size) & (order < count[:, None])) / count[:, None]
    at = at.clamp(0, size - 1)
    lower = at.long()
    fraction = at - lower
    weights = torch.zeros(len(start), size, dtype=start.dtype, device=start.device)
    weights.scatter_add_(1, lower, share * (1 - fraction))
    return weights.scatter_add_(1, (lower + 1).clamp(max=size - 1), share * fraction)


def _check_boxes(boxes_xyxy: torch.Tensor) -> None:
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    ordered = ((sides > 0) & sides.isfinite()).all(1)
    if not bool(ordered.all()):
        row = int(ordered.logical_not().nonzero()[0])
        raise ShapeError(
            f"boxes_xyxy: expected finite left < right and top < bottom in row {row}, "
            f"got {boxes_xyxy[row].tolist()}; give (left, top, right, bottom), not (x, y, width, height)"
        )
