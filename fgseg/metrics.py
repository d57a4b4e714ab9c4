"""Segmentation metrics as publications report them: integer counts over a whole data set, divided once.

The metrics are not means over images: the intersection and the union of a class are summed over all images first.
Well-known libraries average in other ways and treat absent classes and ignored labels differently, so their figures
are not comparable with these.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_array, check_integers, check_whole
from fgseg.types import MAX_CLASSES

__all__ = [
    "BOUNDARY_SHARE",
    "accuracy",
    "boundary_counts",
    "boundary_distance",
    "boundary_iou",
    "boundary_mask",
    "class_accuracy",
    "class_counts",
    "class_iou",
    "confusion",
    "iou",
    "mean_accuracy",
    "mean_iou",
    "mean_of_classes",
    "pixel_accuracy",
]

_MOST_CLASSES = MAX_CLASSES + 1  # one more for the pixels without a label
BOUNDARY_SHARE = 0.02
"""Width of a boundary in image diagonals: Cheng et al., "Boundary IoU", CVPR 2021."""


def confusion(
    prediction: NDArray[np.integer], truth: NDArray[np.integer], num_classes: int, ignore: int | None = 255
) -> NDArray[np.int64]:
    """Pixels of each true class (rows) that were given each class (columns). Add them over images.

    Args:
        prediction: (H, W) integers, 0 to num_classes - 1.
        truth: (H, W) integers, 0 to num_classes - 1, or `ignore`.
        num_classes: C, 1 to 65,535.
        ignore: true label whose pixels are not counted; None counts every pixel.

    Returns:
        (C, C) int64.

    Raises:
        ShapeError: arrays of different sizes or not of integers, or a label outside the classes at a counted pixel.
        OptionError: `num_classes` out of range or not whole.

    Examples:
        >>> confusion(np.array([[0, 1, 1]]), np.array([[0, 0, 255]]), 2).tolist()
        [[1, 1], [0, 0]]
    """
    num_classes = check_whole("num_classes", num_classes, low=1, high=_MOST_CLASSES)
    counted = _checked_pair(prediction, truth, num_classes, ignore)
    rows, columns = truth[counted].astype(np.int64), prediction[counted].astype(np.int64)
    counts = np.bincount(rows * num_classes + columns, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def boundary_distance(image_hw: tuple[int, int]) -> int:
    """How many pixels from an edge belong to the boundary: 2 % of the image's diagonal, at least 1.

    Examples:
        >>> boundary_distance((480, 640)), boundary_distance((10, 10))
        (16, 1)
    """
    return max(1, round(BOUNDARY_SHARE * float(np.hypot(*image_hw))))


def boundary_mask(labels: NDArray[np.integer], distance: int) -> NDArray[np.bool_]:
    """Whether the square of `2 * distance + 1` pixels around a pixel holds another label or reaches outside the image.

    Args:
        labels: (H, W) integers.
        distance: pixels, at least 1.

    Returns:
        (H, W) bool.

    Raises:
        ShapeError: not two axes, not integers, or beyond 2**53.
        OptionError: `distance` below 1 or not whole.

    Examples:
        >>> boundary_mask(np.array([[1, 1, 1, 1, 1]] * 3), 1).astype(int).tolist()
        [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]]
    """
    check_array("labels", labels, ("H", "W"))
    check_integers("labels", labels, low=-(2**53), high=2**53)  # which float64 holds exactly
    distance = check_whole("distance", distance, low=1, high=2**31 - 1)
    framed = np.pad(labels.astype(np.float64), 1, constant_values=-np.inf)
    window = np.ones((3, 3), np.uint8)
    edges = cv2.dilate(framed, window) != cv2.erode(framed, window)
    # Growing the boundary of one pixel gives the same pixels as one large window and takes less time.
    side = 2 * min(distance, max(framed.shape)) - 1
    grown = cv2.dilate(edges.view(np.uint8), np.ones((side, side), np.uint8))
    return grown[1:-1, 1:-1].view(np.bool_)


def boundary_counts(
    prediction: NDArray[np.integer],
    truth: NDArray[np.integer],
    num_classes: int,
    ignore: int | None = 255,
    *,
    distance: int | None = None,
) -> NDArray[np.int64]:
    """Pixels near the edges of each class, for boundary IoU. Add them over images.

    The boundary of a class is what erosion by a square of `2 * distance + 1` pixels removes from its mask, as in
    Cheng et al., "Boundary IoU" (CVPR 2021). Pixels outside the image belong to no class. Ignored pixels belong to no
    class in either map, so that edges towards them are treated like the image's border.

    Args:
        prediction: (H, W) integers, 0 to num_classes - 1.
        truth: (H, W) integers, 0 to num_classes - 1, or `ignore`.
        num_classes: C, at least 1.
        ignore: true label whose pixels are not counted; None counts every pixel.
        distance: pixels; None takes `boundary_distance` of the image.

    Returns:
        (3, C) int64: pixels in both boundaries, in that of the prediction, in that of the truth.

    Raises:
        ShapeError: as `confusion`.
        OptionError: `num_classes` or `distance` out of range or not whole.

    Examples:
        >>> truth = np.zeros((5, 5), int)
        >>> boundary_counts(truth, truth, 1, distance=1).tolist()
        [[16], [16], [16]]
    """
    num_classes = check_whole("num_classes", num_classes, low=1, high=_MOST_CLASSES)
    counted = _checked_pair(prediction, truth, num_classes, ignore)
    height, width = truth.shape
    width_of_edge = boundary_distance((height, width)) if distance is None else distance
    given, true = (np.where(counted, labels, -1).astype(np.int64) for labels in (prediction, truth))
    near_given, near_true = (boundary_mask(labels, width_of_edge) & counted for labels in (given, true))
    both = near_given & near_true & (given == true)
    return np.stack(
        [np.bincount(labels, minlength=num_classes) for labels in (true[both], given[near_given], true[near_true])]
    )


def boundary_iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of the boundary pixels of each class.

    Args:
        counts: (3, C) from `boundary_counts`.

    Returns:
        (C,) float64 in [0, 1]; NaN for a class in neither truth nor prediction.

    Examples:
        >>> boundary_iou(np.array([[3, 0], [4, 0], [3, 0]])).tolist()
        [0.75, nan]
    """
    check_array("counts", counts, (3, "C"), hint="add up what `boundary_counts` returns")
    return class_iou(counts)


def iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of each class: I / (P + L - I).

    Args:
        counts: (C, C) from `confusion`, rows truth.

    Returns:
        (C,) float64 in [0, 1]; NaN for a class in neither truth nor prediction, 0 for one that is only predicted.

    Examples:
        >>> iou(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])).tolist()
        [0.75, 0.8, nan]
    """
    return class_iou(class_counts(counts))


def mean_iou(counts: NDArray[np.int64]) -> float:
    """Mean of `iou` over the classes that occur in truth or prediction; NaN when none does.

    Examples:
        >>> round(mean_iou(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])), 3)
        0.775
    """
    return float(mean_of_classes(iou(counts)))


def accuracy(counts: NDArray[np.int64]) -> float:
    """Share of the counted pixels that were given their true class (aAcc); NaN when none was counted.

    Examples:
        >>> accuracy(np.array([[3, 1], [0, 4]]))
        0.875
    """
    return float(pixel_accuracy(class_counts(counts)))


def mean_accuracy(counts: NDArray[np.int64]) -> float:
    """Mean over the true classes of the share of each class's pixels that were found (mAcc); NaN if there are none.

    Examples:
        >>> mean_accuracy(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
        0.875
    """
    return float(mean_of_classes(class_accuracy(class_counts(counts))))


def class_counts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pixels of each class that the metrics need from a confusion matrix.

    Args:
        counts: (C, C) from `confusion`, rows truth.

    Returns:
        (3, C) int64: pixels in both maps, in the prediction, in the truth; the layout of `boundary_counts`.

    Examples:
        >>> class_counts(np.array([[3, 1], [0, 4]])).tolist()
        [[3, 4], [3, 5], [4, 4]]
    """
    check_array("counts", counts, ("C", "C"), hint="add up what `confusion` returns")
    return np.stack([np.diag(counts), counts.sum(0), counts.sum(1)])


def class_iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of each class, for one set of counts or for many.

    Args:
        counts: (..., 3, C) pixels in both maps, in the prediction, in the truth.

    Returns:
        (..., C) float64 in [0, 1]; NaN for a class in neither map.

    Examples:
        >>> class_iou(np.array([[3, 4], [3, 5], [4, 4]])).tolist()
        [0.75, 0.8]
    """
    both, predicted, true = np.moveaxis(counts, -2, 0)
    return _divided(both, predicted + true - both)


def class_accuracy(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of the true pixels of each class that were found: (..., C); NaN for a class without a true pixel.

    Examples:
        >>> class_accuracy(np.array([[3, 4], [3, 5], [4, 4]])).tolist()
        [0.75, 1.0]
    """
    both, _, true = np.moveaxis(counts, -2, 0)
    return _divided(both, true)


def pixel_accuracy(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of the true pixels of all classes that were found: (...); NaN where there is no true pixel.

    Examples:
        >>> float(pixel_accuracy(np.array([[3, 4], [3, 5], [4, 4]])))
        0.875
    """
    both, _, true = np.moveaxis(counts, -2, 0)
    return _divided(both.sum(-1), true.sum(-1))


def mean_of_classes(per_class: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis without NaN; NaN where every class is NaN.

    Examples:
        >>> mean_of_classes(np.array([[0.5, np.nan], [np.nan, np.nan]])).tolist()
        [0.5, nan]
    """
    return _divided(np.nansum(per_class, axis=-1), np.isfinite(per_class).sum(-1))


def _checked_pair(
    prediction: NDArray[np.integer], truth: NDArray[np.integer], num_classes: int, ignore: int | None
) -> NDArray[np.bool_]:
    """Which pixels count, (H, W) bool; raises if the two maps do not fit."""
    check_array("truth", truth, ("H", "W"))
    check_array("prediction", prediction, truth.shape, hint="resize the prediction to the label, never the label")
    counted: NDArray[np.bool_] = np.ones(truth.shape, bool) if ignore is None else truth != ignore
    hint = "map the data set's ids to class indices first, and unlabelled predictions to a class"
    for name, labels in (("truth", truth[counted]), ("prediction", prediction[counted])):
        check_integers(name, labels, low=0, high=num_classes - 1, hint=hint)
    return counted


def _divided(part: NDArray[Any], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
