"""Shares of right answers, with intervals over images: what box and retrieval tasks report."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg.benching.counting import INTERVAL, RESAMPLES, SEED

__all__ = ["place_of", "share"]


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
