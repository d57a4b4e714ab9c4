"""Votes: every region of an image takes the label that most of its pixels have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_array, check_labels
from fgseg.errors import OptionError
from fgseg.regions.specks import most_frequent

__all__ = ["check_vote", "vote"]


def check_vote(*, has_regions: bool, vote: bool, recipe: str | None) -> None:
    """Refuse a vote without regions, and regions that nothing uses.

    Args:
        has_regions: whether a region map is given.
        vote: whether its regions vote.
        recipe: how the encoder attends; "corr" uses the regions too.

    Raises:
        OptionError: one of these.
    """
    if not isinstance(vote, bool):
        raise OptionError(f"vote: expected True or False, got {vote!r:.80}")
    if vote and not has_regions:
        raise OptionError('vote: expected regions that vote, got none; give a region map, such as "superpixels"')
    if has_regions and not vote and recipe != "corr":
        raise OptionError("region_map: nothing uses the regions unless they vote; give vote=True too, or leave it out")


def vote(labels: NDArray[np.int32], regions: NDArray[np.int32]) -> NDArray[np.int32]:
    """Labels where every region has its most frequent label; of equally frequent ones the smallest.

    It is the map correction of CorrCLIP (Zhang et al., "CorrCLIP: Reconstructing Patch Correlations in CLIP for
    Open-Vocabulary Semantic Segmentation", ICCV 2025), except that no region is taken for the part without regions.

    Args:
        labels: (H, W) int32. UNLABELLED counts as a label, so a region without a class in most of its pixels loses it
            in all.
        regions: (H, W) int32 number of each pixel's region. A pixel with a negative number keeps its label.

    Returns:
        (H, W) int32, a new array.

    Raises:
        ShapeError: labels that are not (H, W) int32, or regions of another size.

    >>> vote(np.int32([[0, 1, 1, 2]]), np.int32([[5, 5, 5, -1]]))
    array([[1, 1, 1, 2]], dtype=int32)
    """
    check_labels(labels)
    check_array("regions", regions, labels.shape, hint="one number for each pixel of the labels")
    voted = labels.copy()
    inside = regions >= 0
    numbers, winners = most_frequent(regions[inside], labels[inside])
    voted[inside] = winners[np.searchsorted(numbers, regions[inside])]
    return voted
