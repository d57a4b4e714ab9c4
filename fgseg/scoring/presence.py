"""Presence, the probability of a class against its best rival, and the labels and masks that follow from it.

Presence has the same meaning for every prompt, so one threshold serves all, and the map of an absent object stays low.
"""

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_array, check_number, check_shares
from fgseg.errors import ShapeError
from fgseg.types import UNLABELLED

__all__ = ["TIE", "automatic_threshold", "exclusive_labels", "presence", "presence_of"]

TIE = 0.5
"""The presence of a class that is as likely as its best rival."""
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
    found = presence_of(score_map, rival_map, logit_scale)
    if np.isnan(found).any():
        raise ShapeError("score_map, rival_map: expected numbers, got NaN; look for a broken encoder or image")
    return found


def presence_of(
    score_map: NDArray[np.float32], rival_map: NDArray[np.float32], logit_scale: float
) -> NDArray[np.float32]:
    """`presence` without its checks, for maps that another stage made."""
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite logit is a presence of exactly 0 or 1
        logits = np.float32(logit_scale) * (score_map - rival_map)
    # The logistic function written as a tanh, which cannot overflow.
    return (0.5 * (1 + np.tanh(0.5 * logits))).astype(np.float32)


def exclusive_labels(
    labels: NDArray[np.int32],
    best: NDArray[np.float32],
    rival: NDArray[np.float32],
    *,
    threshold: float,
    logit_scale: float,
) -> NDArray[np.int32]:
    """Labels without the pixels whose winning class is not present enough; for maps of other stages, without checks.

    Args:
        labels: (H, W) int32, the winning class of each pixel.
        best: (H, W) float32, its cosine there.
        rival: (H, W) float32 as in `presence`.
        threshold: presence in [0, 1] that a winner needs.
        logit_scale: as in `presence`.

    Returns:
        (H, W) int32, UNLABELLED where the presence is below `threshold`.

    >>> labels, best, rival = np.int32([[0, 1]]), np.float32([[0.3, 0.1]]), np.float32([[0.2, 0.2]])
    >>> exclusive_labels(labels, best, rival, threshold=0.5, logit_scale=40)
    array([[ 0, -1]], dtype=int32)
    """
    weak = presence_of(best, rival, logit_scale) < threshold
    return np.where(weak, np.int32(UNLABELLED), labels)


def automatic_threshold(presence_map: NDArray[np.float32], *, low: float = 0.5) -> float:
    """A threshold between two modes of the presence histogram, by Otsu's rule; `low` where there are no two modes.

    Otsu's threshold (N. Otsu, A threshold selection method from gray-level histograms, IEEE Trans. Systems,
    Man, and Cybernetics 9(1), 1979) of the 256-bin histogram of [0, 1] splits every map in two, even one that
    shows a single thing. It is therefore used only where it separates an absent from a present class, that is, where
    the mean of the lower mode is below `low`, and it is never below `low`:

    * the class is absent (every presence is below `low`): returns `low`, and the mask is empty;
    * the class is everywhere (both modes are above `low`): returns `low`, and no pixel is cut away;
    * the map is constant or empty: returns `low`.

    Limits: only the histogram is used, so an object of very few pixels, or three modes, can draw the threshold to the
    wrong gap. The threshold only rises, so it cannot find what the score missed.

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
    from skimage.filters import threshold_otsu  # imported only when it is used, since commands should start at once

    check_array("presence_map", presence_map, ("H", "W"))
    check_shares("presence_map", presence_map, hint="compute it from a score map with presence()")
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
