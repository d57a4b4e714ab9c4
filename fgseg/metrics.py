"""Segmentation metrics as the field reports them: integer counts over a whole data set, divided once.

Not a mean over images: a class's intersection and union are summed first. Well-known libraries differ in averaging, in
absent classes and in ignored labels, so figures of theirs do not compare.
"""

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_array, check_number, describe
from fgseg.errors import ShapeError

__all__ = ["accuracy", "confusion", "iou", "mean_accuracy", "mean_iou"]


def confusion(
    prediction: NDArray[np.integer], truth: NDArray[np.integer], num_classes: int, ignore: int | None = 255
) -> NDArray[np.int64]:
    """Pixels of each true class (rows) that were given each class (columns). Add them over images.

    Args:
        prediction: (H, W) integers, 0 to num_classes - 1.
        truth: (H, W) integers, 0 to num_classes - 1, or `ignore`.
        num_classes: C, at least 1.
        ignore: true label whose pixels are not counted; None counts every pixel.

    Returns:
        (C, C) int64.

    Raises:
        ShapeError: arrays of different sizes or not of integers, or a label outside the classes at a counted pixel.
        OptionError: `num_classes` below 1.

    Examples:
        >>> confusion(np.array([[0, 1, 1]]), np.array([[0, 0, 255]]), 2).tolist()
        [[1, 1], [0, 0]]
    """
    check_number("num_classes", num_classes, low=1, high=2**31 - 1)
    check_array("truth", truth, ("H", "W"))
    check_array("prediction", prediction, truth.shape, hint="resize the prediction to the label, never the label")
    for name, labels in (("prediction", prediction), ("truth", truth)):
        if not (isinstance(labels, np.ndarray) and np.issubdtype(labels.dtype, np.integer)):
            raise ShapeError(f"{name}: expected a numpy array of integers, got {describe(labels)}")
    counted = np.ones(truth.shape, bool) if ignore is None else truth != ignore
    rows, columns = truth[counted].astype(np.int64), prediction[counted].astype(np.int64)
    for name, labels in (("truth", rows), ("prediction", columns)):
        if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
            raise ShapeError(
                f"{name}: expected labels from 0 to {num_classes - 1}, got {labels.min()} to {labels.max()}; "
                "map the data set's ids to class indices first, and unlabelled predictions to a class"
            )
    counts = np.bincount(rows * num_classes + columns, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


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
    _check_counts(counts)
    hit = np.diag(counts)
    return _divided(hit, counts.sum(0) + counts.sum(1) - hit)


def mean_iou(counts: NDArray[np.int64]) -> float:
    """Mean of `iou` over the classes that occur in truth or prediction; NaN when none does.

    Examples:
        >>> round(mean_iou(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])), 3)
        0.775
    """
    per_class = iou(counts)
    return float(np.nanmean(per_class)) if np.isfinite(per_class).any() else float("nan")


def accuracy(counts: NDArray[np.int64]) -> float:
    """Share of the counted pixels that were given their class (aAcc); NaN when none was counted.

    Examples:
        >>> accuracy(np.array([[3, 1], [0, 4]]))
        0.875
    """
    _check_counts(counts)
    return float(_divided(np.array([np.trace(counts)]), np.array([counts.sum()]))[0])


def mean_accuracy(counts: NDArray[np.int64]) -> float:
    """Mean over the classes in the truth of the share of their pixels found (mAcc); NaN when there are none.

    Examples:
        >>> mean_accuracy(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
        0.875
    """
    _check_counts(counts)
    per_class = _divided(np.diag(counts), counts.sum(1))
    return float(np.nanmean(per_class)) if np.isfinite(per_class).any() else float("nan")


def _divided(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return shares


def _check_counts(counts: NDArray[np.int64]) -> None:
    check_array("counts", counts, ("C", "C"), hint="add up what `confusion` returns")
