"""Pixel counts of each image, the figures of a data set, trivial baselines and confidence intervals.

The counts of an image are (6, C) int64: three rows for all pixels and three for boundary pixels, each in the layout of
`fgseg.metrics.class_counts`. They stay integers until `fgseg.metrics` divides them.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg import metrics
from fgseg.evaluation.rows import Row
from fgseg.types import UNLABELLED

__all__ = [
    "RESAMPLES",
    "SEED",
    "answer_accuracy",
    "bootstrap",
    "counts_of_row",
    "figures",
    "image_row",
    "pixel_counts",
    "rank_of",
    "total_confusion",
]

SEED = 731
"""Seed of everything random in a run: the random baseline and the resampled images."""
RESAMPLES = 1000
_QUANTILES = (0.025, 0.975)

Counts = NDArray[np.int64]


def image_row(
    prediction: NDArray[np.int32],
    truth: NDArray[np.int32],
    *,
    num_classes: int,
    ignore: int | None,
    name: str,
    prompted: Sequence[int],
) -> Row:
    """The counts that are kept of one image, sparse and as plain lists for JSON.

    Args:
        prediction: (H, W) classes, UNLABELLED where there is none.
        truth: (H, W) classes and ignored labels.
        num_classes: C.
        ignore: the ignored label; None counts every pixel.
        name: name of the image, which seeds its random baseline.
        prompted: the classes that the model and the random baseline choose among.

    Raises:
        ShapeError: the maps differ in size, or a label is not a class.
    """
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode("utf-8", errors="surrogatepass"))])
    guess = np.asarray(prompted, np.int32)[rng.integers(0, len(prompted), truth.shape)]
    return {
        "model": _sparse(prediction, truth, num_classes, ignore),
        "random": _sparse_by_class(guess, truth, num_classes, ignore),
        "ring": _image_boundary(truth, num_classes, ignore),
    }


def _image_boundary(truth: NDArray[np.int32], num_classes: int, ignore: int | None) -> dict[str, Any]:
    """The boundary pixels of a prediction of one class, and how many of them are on the true boundary of each class."""
    counted = np.ones(truth.shape, bool) if ignore is None else truth != ignore
    distance = metrics.boundary_distance((truth.shape[0], truth.shape[1]))
    boundary = metrics.boundary_mask(counted.astype(np.int32), distance) & counted
    both = boundary & metrics.boundary_mask(np.where(counted, truth, -1), distance)
    hits = np.bincount(truth[both], minlength=num_classes)
    return {"given": int(boundary.sum()), "both": [[int(index), int(hits[index])] for index in np.flatnonzero(hits)]}


def _sparse(
    prediction: NDArray[np.int32], truth: NDArray[np.int32], num_classes: int, ignore: int | None
) -> dict[str, list[list[int]]]:
    # Unlabelled pixels get a column of their own: their class is missed, and no class is predicted.
    given = np.where(prediction == UNLABELLED, num_classes, prediction)
    counts = metrics.confusion(given, truth, num_classes + 1, ignore)
    edges = metrics.boundary_counts(given, truth, num_classes + 1, ignore)[:, :num_classes]
    rows, columns = np.nonzero(counts)
    present = np.flatnonzero(edges.any(0))
    return {
        "confusion": np.stack([rows, columns, counts[rows, columns]], 1).tolist(),
        "boundary": np.concatenate([present[None], edges[:, present]]).T.tolist(),
    }


def _sparse_by_class(
    guess: NDArray[np.int32], truth: NDArray[np.int32], num_classes: int, ignore: int | None
) -> dict[str, list[list[int]]]:
    """Five counts per class; the confusion matrix of a random prediction is not sparse."""
    right, predicted, _ = metrics.class_counts(metrics.confusion(guess, truth, num_classes, ignore))
    counts = np.stack([right, predicted, *metrics.boundary_counts(guess, truth, num_classes, ignore)])
    present = np.flatnonzero(counts.any(0))
    return {"classes": np.concatenate([present[None], counts[:, present]]).T.tolist()}


def pixel_counts(rows: Sequence[Row], num_classes: int, *, prompts: str, has_background: bool) -> dict[str, Counts]:
    """(N, 6, C) int64 counts of N images, of "model" and of each trivial baseline by name.

    The most frequent class is that of the data set; where only the present classes are prompted, it is the most
    frequent one of those present in the image.
    """
    model = np.zeros((len(rows), 6, num_classes), np.int64)
    for counts, row in zip(model, rows, strict=True):
        counts[:3] = counts_of_row(row, num_classes)
        for index, *edges in row["model"]["boundary"]:
            counts[3:, index] = edges
    true = model[:, 2]
    order = np.argsort(-true.sum(0), kind="stable")
    frequent = np.full(len(rows), order[0])
    if prompts == "present":
        is_there = true[:, order] > 0
        frequent = np.where(is_there.any(1), order[is_there.argmax(1)], order[0])
    table = {
        "model": model,
        "most frequent class": _constant(rows, model, frequent),
        "uniform random": _random(rows, model),
    }
    if has_background:
        table["all background"] = _constant(rows, model, np.zeros(len(rows), np.intp))
    return table


def counts_of_row(row: Mapping[str, Any], num_classes: int) -> Counts:
    """(3, C) counts of the model's labels of one image, in the layout of `class_counts`.

    >>> counts_of_row({"model": {"confusion": [[0, 0, 3], [0, 2, 5]]}}, 2).tolist()
    [[3, 0], [3, 0], [8, 0]]
    """
    return metrics.class_counts(_dense_confusion(row, num_classes))[:, :num_classes]


def _dense_confusion(row: Mapping[str, Any], num_classes: int) -> Counts:
    """(C + 1, C + 1) int64; the last column holds the unlabelled pixels."""
    counts = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for true, predicted, pixels in row["model"]["confusion"]:
        counts[true, predicted] += pixels
    return counts


def _random(rows: Sequence[Row], model: Counts) -> Counts:
    """The counts of the random baseline."""
    dense = np.zeros_like(model)
    dense[:, 2] = model[:, 2]
    for counts, row in zip(dense, rows, strict=True):
        for index, *five in row["random"]["classes"]:
            counts[[0, 1, 3, 4, 5], index] = five
    return dense


def _constant(rows: Sequence[Row], model: Counts, predicted: NDArray[np.intp]) -> Counts:
    """The counts of predicting one class at every pixel of an image; `predicted` holds the class of each image."""
    dense = np.zeros_like(model)
    dense[:, 2], dense[:, 5] = model[:, 2], model[:, 5]
    every = np.arange(len(rows))
    dense[every, 0, predicted] = model[every, 2, predicted]
    dense[every, 1, predicted] = model[:, 2].sum(1)
    dense[every, 4, predicted] = [row["ring"]["given"] for row in rows]
    dense[every, 3, predicted] = [
        dict(row["ring"]["both"]).get(int(index), 0) for row, index in zip(rows, predicted, strict=True)
    ]
    return dense


def total_confusion(rows: Sequence[Row], num_classes: int) -> Counts:
    """(C, C + 1) int64 over all images, rows truth; the last column holds the unlabelled pixels.

    >>> total_confusion([{"model": {"confusion": [[0, 1, 5]]}}], 2).tolist()
    [[0, 5, 0], [0, 0, 0]]
    """
    total = np.zeros((num_classes, num_classes + 1), np.int64)
    for row in rows:
        total += _dense_confusion(row, num_classes)[:num_classes]
    return total


def figures(sums: Counts) -> dict[str, NDArray[np.float64]]:
    """The figures of summed counts (..., 6, C), each (...,); NaN where nothing counts.

    >>> sums = np.array([[3, 0], [4, 0], [3, 0], [1, 0], [2, 0], [1, 0]])
    >>> {name: float(value) for name, value in figures(sums).items()}
    {'miou': 0.75, 'aacc': 1.0, 'macc': 1.0, 'boundary_iou': 0.5}
    """
    pixels, boundary = sums[..., :3, :], sums[..., 3:, :]
    return {
        "miou": metrics.mean_of_classes(metrics.class_iou(pixels)),
        "aacc": metrics.pixel_accuracy(pixels),
        "macc": metrics.mean_of_classes(metrics.class_accuracy(pixels)),
        "boundary_iou": metrics.mean_of_classes(metrics.class_iou(boundary)),
    }


def bootstrap(per_image: Counts) -> dict[str, tuple[float, float]]:
    """95 % intervals of `figures` over resampled images.

    Args:
        per_image: (N, 6, C), N at least 1.

    Returns:
        (low, high) of each figure; NaN where it is NaN in every resample.
    """
    return {name: _interval(values) for name, values in figures(_resampled_sums(per_image)).items()}


def _resampled_sums(per_image: Counts) -> Counts:
    """(RESAMPLES, ...) sums of counts (N, ...), each over N images drawn with replacement.

    Not `scipy.stats.bootstrap`: for the same seed its intervals differ by up to 2.1e-4 from the published ones, and for
    1449 images of 21 classes it takes 6.1 s and 1.4 GB where this takes 0.14 s, since it gathers every resample.
    """
    count = len(per_image)
    draws = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    # float64 holds sums of pixels up to 2**53 exactly
    sums = draws.astype(np.float64) @ per_image.reshape(count, -1).astype(np.float64)
    return sums.reshape(RESAMPLES, *per_image.shape[1:]).astype(np.int64)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, _QUANTILES)
    return float(low), float(high)


def rank_of(scores: NDArray[np.float32], index: int) -> int:
    """How many entries precede one: those that score higher, and those of a lower index that score the same.

    >>> rank_of(np.array([0.1, 0.5, 0.5], np.float32), 2)
    1
    """
    score = scores[index]
    return int((scores > score).sum() + (scores[:index] == score).sum())


def answer_accuracy(right: Sequence[int], answers: Sequence[int]) -> dict[str, Any]:
    """Share of right answers with a 95 % interval over resampled images, from the numbers of each image.

    >>> answer_accuracy([1, 0], [1, 1])["value"]
    0.5
    """
    counts = np.stack([right, answers], 1).astype(np.int64)
    hits, total = counts.sum(0)
    if not total:
        return {"value": float("nan"), "interval": None, "asked": 0}
    sums = _resampled_sums(counts)
    sums = sums[sums[:, 1] > 0]
    return {"value": float(hits / total), "interval": list(_interval(sums[:, 0] / sums[:, 1])), "asked": int(total)}
