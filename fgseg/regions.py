"""Regions: features pooled over boxes, and the table of a mask's connected parts."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.measure import label

from fgseg._checks import check_array, check_mask, check_whole
from fgseg.errors import OptionError, ShapeError
from fgseg.types import Region

__all__ = ["box_features", "box_weights", "region_table"]

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


def region_table(
    masks: Mapping[str, NDArray[np.bool_]],
    scores: Mapping[str, NDArray[np.float32]],
    *,
    min_area: int = 1,
) -> tuple[Region, ...]:
    """The connected parts (8-connected) of each class's mask, measured.

    One class is held at a time, and the score map of a class without pixels is never asked for.

    Args:
        masks: class -> (H, W) bool.
        scores: class -> (H, W) float32 presence in [0, 1]; has every class of `masks`.
        min_area: pixels a part needs to be listed.

    Returns:
        Regions in the order of `masks`, within a class by falling area, equal areas from the top left.

    Raises:
        ShapeError: not a mask; a score map of another shape or with values outside [0, 1].
        OptionError: a class without scores, or a negative area.

    >>> mask = np.array([[True, True, False, True]])
    >>> table = region_table({"cat": mask}, {"cat": np.float32([[0.5, 1.0, 0.0, 0.75]])})
    >>> [(region.box_xyxy, region.area, region.mean_score) for region in table]
    [((0, 0, 2, 1), 2, 0.75), ((3, 0, 4, 1), 1, 0.75)]
    """
    check_whole("min_area", min_area, low=0, high=np.iinfo(np.int64).max)
    known = set(scores)  # asking a lazy mapping whether it holds a name may compute that map
    if missing := [name for name in masks if name not in known]:
        raise OptionError(f"scores: expected a map for every class, got none for {missing[0]!r}")
    table: list[Region] = []
    for class_index, name in enumerate(masks):
        mask = masks[name]
        check_mask(f"masks[{name!r}]", mask)
        if mask.any():
            table.extend(_class_regions(name, class_index, mask, scores[name], min_area))
    return tuple(table)


def _class_regions(
    name: str, class_index: int, mask: NDArray[np.bool_], score_map: NDArray[np.float32], min_area: int
) -> Iterator[Region]:
    check_array(f"scores[{name!r}]", score_map, mask.shape, hint="a score for each pixel of the mask")
    _check_presence(name, score_map, mask)
    top, bottom = np.flatnonzero(mask.any(axis=1))[[0, -1]]
    left, right = np.flatnonzero(mask.any(axis=0))[[0, -1]]
    window = slice(top, bottom + 1), slice(left, right + 1)
    # skimage's 2 is OpenCV's 8
    parts, count = label(mask[window], connectivity=2, return_num=True)  # type: ignore[no-untyped-call]
    measured = _measure(parts, score_map[window], count)
    peak, mean = measured.peak, measured.score_sum / measured.area
    boxes = measured.boxes_xyxy + np.array([left, top, left, top])
    centroids = measured.sum_yx / measured.area[:, None] + np.array([top, left])
    holes = _hole_counts(parts, count)
    for part in np.lexsort((boxes[:, 0], boxes[:, 1], -measured.area)):
        if measured.area[part] >= min_area:
            yield Region(
                class_name=name,
                class_index=class_index,
                box_xyxy=tuple(boxes[part].tolist()),
                area=int(measured.area[part]),
                centroid_yx=tuple(centroids[part].tolist()),
                mean_score=float(mean[part]),
                peak_score=float(peak[part]),
                holes=int(holes[part]),
            )


def _check_presence(name: str, score_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
    lowest = score_map.min(where=mask, initial=1)
    highest = score_map.max(where=mask, initial=0)
    if not (lowest >= 0 and highest <= 1):  # false for NaN as well
        raise ShapeError(
            f"scores[{name!r}]: expected presence in [0, 1], got {lowest:g} to {highest:g} inside the mask; "
            "make it of a score map with fgseg.masks.presence"
        )


class _Measures(NamedTuple):
    """Of each part: pixels, sums of scores and of (row, column), largest score, box."""

    area: NDArray[np.int64]
    score_sum: NDArray[np.float64]
    sum_yx: NDArray[np.float64]
    peak: NDArray[np.float32]
    boxes_xyxy: NDArray[np.int64]


def _measure(parts: NDArray[np.int32], score_map: NDArray[np.float32], count: int) -> _Measures:
    """Sums and extremes over each part, gathered from its horizontal runs: far fewer than its pixels."""
    # A column of background on the right ends every run in its own row, so that edges come in pairs.
    numbers = np.pad(parts, ((0, 0), (0, 1))).ravel()
    values = np.pad(score_map, ((0, 0), (0, 1))).ravel()
    edges = np.flatnonzero(np.diff(numbers > 0, prepend=False))
    part = numbers[edges[0::2]] - 1
    y, left = np.divmod(edges[0::2], parts.shape[1] + 1)
    length = edges[1::2] - edges[0::2]

    def total(of_runs: NDArray[np.floating] | NDArray[np.int64]) -> NDArray[np.float64]:
        return np.bincount(part, weights=of_runs, minlength=count).astype(np.float64, copy=False)

    boxes = np.empty((4, count), np.int64)
    boxes[:2] = max(parts.shape)
    boxes[2:] = 0
    np.minimum.at(boxes[0], part, left)
    np.minimum.at(boxes[1], part, y)
    np.maximum.at(boxes[2], part, left + length)
    np.maximum.at(boxes[3], part, y + 1)
    peak = np.zeros(count, score_map.dtype)
    # reduceat folds from each edge to the next; every second stretch is a run, the others background.
    np.maximum.at(peak, part, np.maximum.reduceat(values, edges)[0::2])
    return _Measures(
        area=total(length).astype(np.int64),
        score_sum=total(np.add.reduceat(values, edges, dtype=np.float64)[0::2]),
        sum_yx=np.stack([total(y * length), total(length * (left + (length - 1) / 2))], axis=1),
        peak=peak,
        boxes_xyxy=boxes.T,
    )


def _hole_counts(parts: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """Holes of each 8-connected part, from its Euler number: parts minus holes.

    Counting 2x2 windows by what they hold of the part, the Euler number is (one pixel - three pixels
    - 2 * two pixels on a diagonal) / 4 (W. K. Pratt, Digital Image Processing, shape analysis). A window
    holds pixels of one part only, as any two in it touch.
    """
    padded = np.pad(parts, 1)
    corners = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    above_left, above_right, below_left, below_right = (corner > 0 for corner in corners)
    odd = above_left ^ above_right ^ below_left ^ below_right
    diagonal = (above_left == below_right) & (above_right == below_left) & (above_left != above_right)
    window = np.nonzero(odd | diagonal)
    held = np.stack([corner[window] for corner in corners])
    pixels = (held > 0).sum(axis=0)
    quarters = np.choose(pixels - 1, [1, -2, -1])
    euler = np.bincount(held.max(axis=0) - 1, weights=quarters, minlength=count) / 4
    return 1 - np.rint(euler).astype(np.int64)
