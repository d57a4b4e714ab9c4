"""Counts of an image, their figures over a data set, trivial baselines and intervals: integers until the last division.

A tally is (6, C) int64 an image: pixels that are right, predicted and true, then the same of boundary pixels.
"""

import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg.metrics import boundary_counts, boundary_distance, boundary_mask, confusion
from fgseg.types import UNLABELLED

__all__ = [
    "BASELINES",
    "FIGURES",
    "INTERVAL",
    "RESAMPLES",
    "SEED",
    "Tallies",
    "bootstrap",
    "figures",
    "image_row",
    "place_of",
    "share",
    "tallies",
    "total_confusion",
]

SEED = 731
"""Of everything random in a run: the baseline that guesses, and the resampled images."""
RESAMPLES = 1000
INTERVAL = (0.025, 0.975)
FIGURES = ("miou", "aacc", "macc", "boundary_iou")
BASELINES = ("most frequent class", "uniform random", "all background")

Counts = NDArray[np.int64]
Row = dict[str, Any]


def image_row(
    prediction: NDArray[np.int32],
    truth: NDArray[np.int32],
    *,
    num_classes: int,
    ignore: int | None,
    name: str,
    prompted: Sequence[int],
) -> Row:
    """What is kept of one image: sparse counts as plain lists, for JSON.

    Args:
        prediction: (H, W) classes, UNLABELLED where there is none.
        truth: (H, W) classes and ignored labels.
        num_classes: C.
        ignore: the ignored label, None where every pixel counts.
        name: the image's, which seeds its random baseline.
        prompted: the classes that the model chose among; so does the random baseline.

    Raises:
        ShapeError: maps of different sizes, or labels that are no class.
    """
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode("utf-8", errors="surrogatepass"))])
    guess = np.asarray(prompted, np.int32)[rng.integers(0, len(prompted), truth.shape)]
    return {
        "model": _sparse(prediction, truth, num_classes, ignore),
        "random": _marginal(guess, truth, num_classes, ignore),
        "ring": _ring(truth, num_classes, ignore),
    }


def _ring(truth: NDArray[np.int32], num_classes: int, ignore: int | None) -> dict[str, Any]:
    """The boundary pixels of a map of one class alone, and per class how many of them its true boundary holds."""
    counted = np.ones(truth.shape, bool) if ignore is None else truth != ignore
    distance = boundary_distance((truth.shape[0], truth.shape[1]))
    ring = boundary_mask(counted.astype(np.int32), distance) & counted
    both = ring & boundary_mask(np.where(counted, truth, -1), distance)
    hits = np.bincount(truth[both], minlength=num_classes)
    return {"given": int(ring.sum()), "both": [[int(index), int(hits[index])] for index in np.flatnonzero(hits)]}


def _sparse(
    prediction: NDArray[np.int32], truth: NDArray[np.int32], num_classes: int, ignore: int | None
) -> dict[str, list[list[int]]]:
    # Pixels that nothing wins are one more column: missed, and no class's prediction.
    given = np.where(prediction == UNLABELLED, num_classes, prediction)
    counts = confusion(given, truth, num_classes + 1, ignore)
    edges = boundary_counts(given, truth, num_classes + 1, ignore)[:, :num_classes]
    rows, columns = np.nonzero(counts)
    seen = np.flatnonzero(edges.any(0))
    return {
        "confusion": np.stack([rows, columns, counts[rows, columns]], 1).tolist(),
        "boundary": np.concatenate([seen[None], edges[:, seen]]).T.tolist(),
    }


def _marginal(
    guess: NDArray[np.int32], truth: NDArray[np.int32], num_classes: int, ignore: int | None
) -> dict[str, list[list[int]]]:
    """A guess fills all of a confusion, of which the figures need what is right and what is given."""
    counts = confusion(guess, truth, num_classes, ignore)
    edges = boundary_counts(guess, truth, num_classes, ignore)
    tally = np.stack([np.diag(counts), counts.sum(0), *edges])
    seen = np.flatnonzero(tally.any(0))
    return {"classes": np.concatenate([seen[None], tally[:, seen]]).T.tolist()}


@dataclass(frozen=True, eq=False)
class Tallies:
    """(N, 6, C) int64 of N images, of the model and of each baseline by name."""

    model: Counts
    baselines: Mapping[str, Counts]


def tallies(rows: Sequence[Row], num_classes: int, *, prompts: str, has_background: bool) -> Tallies:
    """The counts of all images, and what trivial predictions would have counted.

    The most frequent class is the data set's; where only the present classes are prompted, the most frequent of
    those present in the image.
    """
    model = _dense([row["model"] for row in rows], num_classes)
    true = model[:, 2]
    order = np.argsort(-true.sum(0), kind="stable")
    frequent = np.full(len(rows), order[0])
    if prompts == "present":
        is_there = true[:, order] > 0
        frequent = np.where(is_there.any(1), order[is_there.argmax(1)], order[0])
    baselines = {
        BASELINES[0]: _constant(rows, model, frequent),
        BASELINES[1]: _guessed([row["random"] for row in rows], model),
    }
    if has_background:
        baselines[BASELINES[2]] = _constant(rows, model, np.zeros(len(rows), np.intp))
    return Tallies(model, baselines)


def _dense(sparse: Sequence[Mapping[str, list[list[int]]]], num_classes: int) -> Counts:
    dense = np.zeros((len(sparse), 6, num_classes), np.int64)
    for tally, counts in zip(dense, sparse, strict=True):
        for true, given, pixels in counts["confusion"]:
            tally[2, true] += pixels
            if given < num_classes:
                tally[1, given] += pixels
            if given == true:
                tally[0, true] += pixels
        for index, *edges in counts["boundary"]:
            tally[3:, index] = edges
    return dense


def _guessed(sparse: Sequence[Mapping[str, list[list[int]]]], model: Counts) -> Counts:
    dense = np.zeros_like(model)
    dense[:, 2] = model[:, 2]
    for tally, counts in zip(dense, sparse, strict=True):
        for index, *five in counts["classes"]:
            tally[[0, 1, 3, 4, 5], index] = five
    return dense


def _constant(rows: Sequence[Row], model: Counts, chosen: NDArray[np.intp]) -> Counts:
    """The tallies of predicting one class everywhere, a class an image."""
    dense = np.zeros_like(model)
    dense[:, 2], dense[:, 5] = model[:, 2], model[:, 5]
    every = np.arange(len(rows))
    dense[every, 0, chosen] = model[every, 2, chosen]
    dense[every, 1, chosen] = model[:, 2].sum(1)
    dense[every, 4, chosen] = [row["ring"]["given"] for row in rows]
    for tally, row, index in zip(dense, rows, chosen, strict=True):
        tally[3, index] = dict(row["ring"]["both"]).get(int(index), 0)
    return dense


def total_confusion(rows: Sequence[Row], num_classes: int) -> Counts:
    """(C, C + 1) int64 over all images, rows true; the last column is pixels that nothing won.

    >>> total_confusion([{"model": {"confusion": [[0, 1, 5]]}}], 2).tolist()
    [[0, 5, 0], [0, 0, 0]]
    """
    total = np.zeros((num_classes, num_classes + 1), np.int64)
    for row in rows:
        for true, given, pixels in row["model"]["confusion"]:
            total[true, given] += pixels
    return total


def figures(sums: Counts) -> dict[str, NDArray[np.float64]]:
    """FIGURES of summed tallies (..., 6, C), each (...,); NaN where nothing counts.

    >>> sums = np.array([[3, 0], [4, 0], [3, 0], [1, 0], [2, 0], [1, 0]])
    >>> {name: float(value) for name, value in figures(sums).items()}
    {'miou': 0.75, 'aacc': 1.0, 'macc': 1.0, 'boundary_iou': 0.5}
    """
    right, given, true, edge_right, edge_given, edge_true = np.moveaxis(sums.astype(np.float64), -2, 0)
    return {
        "miou": _mean(_share(right, given + true - right)),
        "aacc": _share(right.sum(-1), true.sum(-1)),
        "macc": _mean(_share(right, true)),
        "boundary_iou": _mean(_share(edge_right, edge_given + edge_true - edge_right)),
    }


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return shares


def _mean(per_class: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the classes that are there; NaN where none is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy's "mean of empty slice"
        return np.asarray(np.nanmean(per_class, axis=-1))


def bootstrap(per_image: Counts) -> dict[str, tuple[float, float]]:
    """95 % intervals of FIGURES: the same number of images drawn with replacement, a thousand times.

    Args:
        per_image: (N, 6, C), N at least 1.

    Returns:
        (low, high) of each figure; NaN where it is NaN in every resample.
    """
    count = len(per_image)
    draws = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    # float64 holds sums of pixels up to 2**53 exactly
    sums = draws.astype(np.float64) @ per_image.reshape(count, -1).astype(np.float64)
    values = figures(sums.reshape(RESAMPLES, *per_image.shape[1:]).astype(np.int64))
    return {name: _interval(value) for name, value in values.items()}


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    there = values[np.isfinite(values)]
    if not len(there):
        return float("nan"), float("nan")
    low, high = np.quantile(there, INTERVAL)
    return float(low), float(high)


def place_of(scores: NDArray[np.float32], right: int) -> int:
    """How many entries come before the right one: the higher ones, and the equal ones of a lower index.

    >>> place_of(np.array([0.1, 0.5, 0.5], np.float32), 2)
    1
    """
    mine = scores[right]
    return int((scores > mine).sum() + (scores[:right] == mine).sum())


def share(right: Sequence[int], asked: Sequence[int]) -> dict[str, Any]:
    """Right answers among those asked, over images, with a 95 % interval from resampled images.

    >>> share([1, 0], [1, 1])["value"]
    0.5
    """
    hits, total = np.asarray(right, np.float64), np.asarray(asked, np.float64)
    if not total.sum():
        return {"value": float("nan"), "interval": None, "asked": 0}
    count = len(hits)
    draws = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)
    sums, totals = draws @ hits, draws @ total
    low, high = np.quantile(sums[totals > 0] / totals[totals > 0], INTERVAL)
    return {"value": float(hits.sum() / total.sum()), "interval": [float(low), float(high)], "asked": int(total.sum())}
