"""The table of a segmentation's regions: box, area, centroid, scores and holes of each component."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from fgseg._checks import check_array, check_mask, check_whole
from fgseg.errors import OptionError, ShapeError
from fgseg.types import Region

__all__ = ["region_table"]


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
            "make it of a score map with fgseg.scoring.presence.presence"
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
