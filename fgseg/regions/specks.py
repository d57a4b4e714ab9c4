"""Specks of a label map: parts and gaps smaller than a quarter of a patch, which the model cannot see.

A small part of a class joins what lies around it: the class that most of the pixels around it have, or no class. A
small unlabelled gap inside one class joins that class. Pixels without data neither vote nor change.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_labels, check_whole
from fgseg.regions.components import labelled_components
from fgseg.types import UNLABELLED

__all__ = ["join_gaps", "join_parts", "most_frequent", "quarter_patch"]

_SIDES = ((-1, 0), (0, -1), (0, 1), (1, 0))
_CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))


def quarter_patch(image_hw: tuple[int, int], grid_hw: tuple[int, int]) -> int:
    """The pixels of the image in a quarter of a patch, rounded up.

    >>> quarter_patch((400, 600), (28, 42))
    52
    """
    return -(-image_hw[0] * image_hw[1] // (4 * grid_hw[0] * grid_hw[1]))


def join_parts(
    labels: NDArray[np.int32], *, min_area: int, no_data: NDArray[np.bool_] | None = None
) -> NDArray[np.int32]:
    """Labels whose small parts (8-connected, one class each) have joined what lies around them.

    Each pixel of a part counts its eight neighbours, without those in small parts and those without data. The part
    takes the label that is counted most, which may be UNLABELLED; of equal counts the lowest, and UNLABELLED if none
    counts.

    Args:
        labels: (H, W) int32, UNLABELLED where no class is.
        min_area: the area in pixels from which a part is not small; 0 and 1 change nothing.
        no_data: (H, W) bool, true where there is no data and `labels` is UNLABELLED; None if every pixel has data.

    Returns:
        (H, W) int32, a new array without a small part.

    Raises:
        ShapeError: `labels` is not (H, W) int32.
        OptionError: a negative area.

    >>> join_parts(np.int32([[3, 3, 0, 3, 3]]), min_area=2)
    array([[3, 3, 3, 3, 3]], dtype=int32)
    """
    check_labels(labels)
    check_whole("min_area", min_area, low=0, high=np.iinfo(np.int64).max)
    joined = labels.copy()
    if min_area <= 1:
        return joined
    components, count = labelled_components(labels, connectivity=8)
    is_small = np.bincount(components.ravel(), minlength=count + 1) < min_area
    is_small[0] = False  # number 0 is UNLABELLED
    small = is_small[components]
    votes = small if no_data is None else small | no_data
    around = list(_around(small, ~votes, labels, components, (*_SIDES, *_CORNERS)))
    parts, voted = (np.concatenate(values) for values in zip(*around, strict=True))
    label_of_part = np.full(count + 1, UNLABELLED, np.int32)
    winners = most_frequent(parts, voted)
    label_of_part[winners[0]] = winners[1]
    joined[small] = label_of_part[components[small]]
    return joined


def join_gaps(
    labels: NDArray[np.int32], *, max_area: int, no_data: NDArray[np.bool_] | None = None
) -> NDArray[np.int32]:
    """Labels whose small gaps inside one class have joined that class.

    A gap is a 4-connected set of unlabelled pixels that does not reach the border of the image, as a hole of
    `fgseg.regions.fill_holes`. It lies inside one class if no pixel beside it has another; pixels without data do not
    count.

    Args:
        labels: (H, W) int32, UNLABELLED where no class is.
        max_area: the area in pixels of the largest gap that joins; 0 changes nothing.
        no_data: as in `join_parts`.

    Returns:
        (H, W) int32, a new array.

    Raises:
        ShapeError: `labels` is not (H, W) int32.
        OptionError: a negative area.

    >>> join_gaps(np.int32([[3, 3, 3], [3, -1, 3], [3, 3, 3]]), max_area=1)[1]
    array([3, 3, 3], dtype=int32)
    """
    check_labels(labels)
    check_whole("max_area", max_area, low=0, high=np.iinfo(np.int64).max)
    joined = labels.copy()
    if not max_area:
        return joined
    is_open = labels == UNLABELLED if no_data is None else (labels == UNLABELLED) & ~no_data
    gaps, count = labelled_components(is_open, connectivity=4)
    is_small = np.bincount(gaps.ravel(), minlength=count + 1) <= max_area
    for border in (gaps[:1], gaps[-1:], gaps[:, :1], gaps[:, -1:]):
        is_small[border] = False
    is_small[0] = False  # number 0 is no gap
    small = is_small[gaps]
    lowest, highest = np.full(count + 1, np.iinfo(np.int32).max, np.int32), np.full(count + 1, UNLABELLED, np.int32)
    for numbers, beside in _around(small, labels != UNLABELLED, labels, gaps, _SIDES):
        np.minimum.at(lowest, numbers, beside)
        np.maximum.at(highest, numbers, beside)
    class_of_gap = np.where(lowest == highest, highest, UNLABELLED)
    joined[small] = class_of_gap[gaps[small]]
    return joined


def _around(
    chosen: NDArray[np.bool_],
    counted: NDArray[np.bool_],
    labels: NDArray[np.int32],
    components: NDArray[np.integer],
    steps: tuple[tuple[int, int], ...],
) -> Iterator[tuple[NDArray[np.integer], NDArray[np.int32]]]:
    """For each step, the component of every chosen pixel whose neighbour is counted, and the neighbour's label."""
    y, x = np.nonzero(chosen)
    height, width = labels.shape
    for down, right in steps:
        row, column = y + down, x + right
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        inside[inside] = counted[row[inside], column[inside]]
        yield components[y[inside], x[inside]], labels[row[inside], column[inside]]


def most_frequent(
    groups: NDArray[np.integer], values: NDArray[np.int32]
) -> tuple[NDArray[np.integer], NDArray[np.int32]]:
    """The groups, each once, and the value that each has most often; of equal counts the lowest."""
    base = int(values.max(initial=UNLABELLED)) + 2  # values from UNLABELLED to base - 2
    pairs, counts = np.unique(groups.astype(np.int64) * base + values + 1, return_counts=True)
    group, value = np.divmod(pairs, base)
    order = np.lexsort((value, -counts, group))
    found, first = np.unique(group[order], return_index=True)
    return found, (value[order][first] - 1).astype(np.int32)
