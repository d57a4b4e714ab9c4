"""Masks from score maps: presence, thresholds, connected parts, holes, and outlines that follow pixel edges.

Score maps become *presence*, the probability of a class against its best rival, so that one number means
the same for every prompt and an absent object does not look hot. Connectivity: 8 for masks (pixels that
touch at a corner are one part), 4 for the holes in them, which is what keeps a closed outline closed.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from fgseg._checks import check_array, check_labels, check_number
from fgseg.errors import ShapeError
from fgseg.types import UNLABELLED

__all__ = ["TIE", "automatic_threshold", "exclusive_labels", "presence", "threshold_mask"]

TIE = 0.5
"""The presence of a class that is as likely as the best of the words it competes with."""
_BINS = 256  # a power of two: bin edges are exact in float32
_FLOAT32 = np.finfo(np.float32)


def presence(
    score_map: NDArray[np.float32], rival_map: NDArray[np.float32], *, logit_scale: float
) -> NDArray[np.float32]:
    """Probability of a class against its best rival: 1 / (1 + exp(-logit_scale * (score - rival))).

    Args:
        score_map: (H, W) float, cosine of each pixel with the class.
        rival_map: (H, W) float, the largest cosine of the background words and negative prompts there.
        logit_scale: the temperature that the scores are multiplied by, above 0.

    Returns:
        (H, W) float32 in [0, 1]: 0.5 where the class is as likely as its rival.

    Raises:
        ShapeError: maps of different shapes, or NaN in one.
        OptionError: `logit_scale` is not a number above 0.

    >>> presence(np.float32([[0.2, 0.3]]), np.float32([[0.2, 0.2]]), logit_scale=40).round(3)
    array([[0.5  , 0.982]], dtype=float32)
    """
    check_array("score_map", score_map, ("H", "W"))
    check_array("rival_map", rival_map, score_map.shape, hint="both maps cover the same pixels")
    check_number("logit_scale", logit_scale, low=float(_FLOAT32.tiny), high=float(_FLOAT32.max))
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite logit is a presence of exactly 0 or 1
        logits = np.float32(logit_scale) * (score_map - rival_map)
    if np.isnan(logits).any():
        raise ShapeError("score_map, rival_map: expected numbers, got NaN; look for a broken encoder or image")
    # The logistic function written as a tanh, which cannot overflow.
    probability: NDArray[np.float32] = (0.5 * (1 + np.tanh(0.5 * logits))).astype(np.float32)
    return probability


def exclusive_labels(
    labels: NDArray[np.int32],
    best: NDArray[np.float32],
    rival: NDArray[np.float32] | None,
    *,
    threshold: float,
    logit_scale: float,
) -> NDArray[np.int32]:
    """Labels with the pixels taken out whose winner is not present enough.

    Args:
        labels: (H, W) int32, the winning class of each pixel.
        best: (H, W) float32, its cosine there.
        rival: (H, W) float32 as in `presence`; None: there is nothing to compete with and nothing is dropped.
        threshold: presence in [0, 1] that a winner needs.
        logit_scale: as in `presence`.

    Returns:
        (H, W) int32, UNLABELLED where the presence is below `threshold`.

    Raises:
        ShapeError: `labels` is not int32, or shapes differ.
        OptionError: `threshold` outside [0, 1].

    >>> labels, best, rival = np.int32([[0, 1]]), np.float32([[0.3, 0.1]]), np.float32([[0.2, 0.2]])
    >>> exclusive_labels(labels, best, rival, threshold=0.5, logit_scale=40)
    array([[ 0, -1]], dtype=int32)
    """
    check_labels(labels)
    check_array("best", best, labels.shape, hint="one score for each pixel of labels")
    least = check_number("threshold", threshold, low=0, high=1)
    if rival is None:
        return labels.copy()
    weak = presence(best, rival, logit_scale=logit_scale) < least
    return np.where(weak, np.int32(UNLABELLED), labels)


def automatic_threshold(presence_map: NDArray[np.float32], *, low: float = 0.5) -> float:
    """A threshold between two heaps of presence values, by Otsu's rule; `low` where there are no two heaps.

    Otsu's threshold (N. Otsu, A threshold selection method from gray-level histograms, IEEE Trans. Systems,
    Man, and Cybernetics 9(1), 1979) of the 256-bin histogram of [0, 1] splits any map in two, also one that
    shows a single thing. It is therefore taken only where it separates what is there from what is not, that
    is, where the mean of the lower heap is below `low`, and it is never below `low`:

    * nothing is there (every presence below `low`): returns `low`, and the mask is empty;
    * the class is all there is (both heaps above `low`): returns `low`, and no part of it is cut away;
    * a constant or empty map: returns `low`.

    Limits: it reads the histogram alone, so an object of very few pixels, or three heaps, can draw the
    threshold to the wrong gap; it raises the bar and cannot find what the score missed.

    Args:
        presence_map: (H, W) float in [0, 1], from `presence`.
        low: smallest threshold, in [0, 1].

    Returns:
        A threshold in [low, 1] for `presence_map >= threshold`.

    Raises:
        ShapeError: values outside [0, 1] or NaN.
        OptionError: `low` outside [0, 1].

    >>> automatic_threshold(np.float32([[0.1, 0.1, 0.55, 0.55, 0.95, 0.95, 0.95, 0.95]]))
    0.55078125
    >>> automatic_threshold(np.float32([[0.1, 0.1, 0.3]])), automatic_threshold(np.float32([[0.8, 0.9]]))
    (0.5, 0.5)
    """
    _check_presence(presence_map)
    check_number("low", low, low=0, high=1)
    bins = np.minimum(presence_map * np.float32(_BINS), _BINS - 1).astype(np.uint8)
    counts = np.bincount(bins.ravel(), minlength=_BINS)
    if np.count_nonzero(counts) < 2:
        return float(low)
    last_low_bin = int(threshold_otsu(hist=(counts, np.arange(_BINS))))  # type: ignore[no-untyped-call]
    lower = counts[: last_low_bin + 1]
    mean_of_lower = (np.arange(lower.size) + 0.5) @ lower / lower.sum() / _BINS
    if mean_of_lower >= low:
        return float(low)
    return max(float(low), (last_low_bin + 1) / _BINS)


def threshold_mask(presence_map: NDArray[np.float32], *, threshold: float | Literal["auto"]) -> NDArray[np.bool_]:
    """The pixels whose presence reaches the threshold.

    Args:
        presence_map: (H, W) float in [0, 1], from `presence`.
        threshold: a presence in [0, 1], or "auto" for `automatic_threshold`.

    Returns:
        (H, W) bool.

    Raises:
        ShapeError: values outside [0, 1] or NaN.
        OptionError: a threshold outside [0, 1], or another word.

    >>> threshold_mask(np.float32([[0.4, 0.5, 0.9]]), threshold=0.5)
    array([[False,  True,  True]])
    """
    _check_presence(presence_map)
    if threshold == "auto":
        return presence_map >= automatic_threshold(presence_map)
    least = check_number("threshold", threshold, low=0, high=1, hint='or "auto"')  # float64's own would widen the map
    return presence_map >= least


def _check_presence(presence_map: NDArray[np.float32]) -> None:
    check_array("presence_map", presence_map, ("H", "W"))
    if presence_map.size and not (presence_map.min() >= 0 and presence_map.max() <= 1):
        raise ShapeError(
            f"presence_map: expected values in [0, 1], got {presence_map.min():g} to {presence_map.max():g}; "
            "make it of a score map with presence()"
        )
