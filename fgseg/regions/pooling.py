"""Features pooled over boxes."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fgseg._checks import check_array, check_boxes, describe
from fgseg.errors import ShapeError
from fgseg.upsample.tensors import Values, as_tensor, full_precision, like

__all__ = ["box_features", "box_weights", "checked_boxes", "pool_boxes"]

log = logging.getLogger("fgseg")
_BOXES_AT_ONCE = 256  # bounds memory at 256 weight maps of the grid; larger batches are no faster


def box_features(grid: Values, boxes_xyxy: Values) -> Values:
    """Mean feature inside each box: RoIAlign with one output cell, aligned, adaptive sampling.

    The rule of He et al., Mask R-CNN (ICCV 2017), as torchvision's `roi_align(output_size=1,
    spatial_scale=1, sampling_ratio=-1, aligned=True)` computes it and FG-CLIP was trained with: the box is
    moved by half a cell and sampled bilinearly at the centres of ceil(height) x ceil(width) equal cells. A
    sample more than one cell outside the grid counts as 0, a nearer one takes the value of the border. The bilinear
    weight of a sample is the product of its weights along y and x, and so is the mean over samples. Each box therefore
    needs two weight vectors.

    Args:
        grid: (Gh, Gw, D) float features of one image, tensor or array.
        boxes_xyxy: (N, 4) boxes (left, top, right, bottom) in grid cells (pixel / image side * grid side);
            they may reach outside.

    Returns:
        (N, D), of the kind, device and dtype of the grid, not normalised; computed in float32 or the grid's wider
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
    tensor = as_tensor(grid)
    if not (tensor.is_floating_point() and tensor.numel()):
        raise ShapeError(f"grid: expected float features of at least one cell, got {describe(grid)}")
    boxes = as_tensor(boxes_xyxy).to(tensor.device, torch.promote_types(tensor.dtype, torch.float32))
    check_boxes("boxes_xyxy", boxes)
    return like(_pooled(tensor, boxes), grid)


def pool_boxes(grid: torch.Tensor, boxes_xyxy: NDArray[np.float32], image_hw: tuple[int, int]) -> torch.Tensor:
    """Mean feature inside each box in pixels, by the rule of `box_features`.

    Args:
        grid: (Gh, Gw, D) float32 features of a whole image.
        boxes_xyxy: (N, 4) float32 boxes (left, top, right, bottom) in pixels, from `checked_boxes`.
        image_hw: (height, width) in pixels of the image that the grid covers edge to edge.

    Returns:
        (N, D) float32 on the grid's device, not normalised.

    >>> pool_boxes(torch.tensor([[[1.0], [3.0]]]), np.float32([[0, 0, 20, 10]]), (10, 40)).tolist()
    [[1.0]]
    """
    (height, width), (rows, columns) = image_hw, grid.shape[:2]
    scale = torch.tensor([columns / width, rows / height] * 2, dtype=torch.float32, device=grid.device)
    return _pooled(grid, torch.from_numpy(boxes_xyxy).to(grid.device) * scale)


def checked_boxes(
    boxes_xyxy: NDArray[Any] | Sequence[Sequence[float]], image_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """Boxes in pixels as a new (N, 4) float32 array, each of them inside the image.

    Boxes that all lie within the first pixel look normalised, and a warning says so.

    Args:
        boxes_xyxy: rows of (left, top, right, bottom) in pixels; no row at all is allowed.
        image_hw: (height, width) of the image in pixels.

    Raises:
        ShapeError: not (N, 4) numbers, or a box that is not finite, has no area or is not inside the image.

    >>> checked_boxes([[0, 0, 20, 10]], (10, 40))
    array([[ 0.,  0., 20., 10.]], dtype=float32)
    """
    try:
        boxes = np.array(boxes_xyxy, np.float32)  # a copy, which torch can take whatever its strides and flags are
    except (TypeError, ValueError) as error:
        raise ShapeError(
            f"boxes_xyxy: expected (left, top, right, bottom) numbers per row, got {describe(boxes_xyxy)}"
        ) from error
    boxes = boxes if boxes.size else boxes.reshape(-1, 4)
    check_boxes("boxes_xyxy", boxes, image_hw=image_hw)
    if boxes.size and boxes.max() <= 1 and max(image_hw) > 1:
        log.warning(
            "boxes_xyxy: every corner lies between 0 and 1, as in normalised boxes, but boxes are in pixels; "
            "if they are normalised, multiply x by %d and y by %d",
            image_hw[1],
            image_hw[0],
        )
    return boxes


@full_precision
def _pooled(grid: torch.Tensor, boxes_xyxy: torch.Tensor) -> torch.Tensor:
    """(N, D) of the grid's dtype, computed in the dtype of the boxes, which are in grid cells."""
    height, width, depth = grid.shape
    cells = grid.reshape(height * width, depth).to(boxes_xyxy.dtype)
    pooled = []
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
    # Samples beyond one cell outside count as 0. Only the samples near the grid are computed, so a huge box
    # costs no more than the grid. The step is over half a cell for any box longer than a cell.
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
