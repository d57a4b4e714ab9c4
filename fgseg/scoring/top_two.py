"""The winner of each pixel and the runner-up."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["looked_up", "top_two"]


def looked_up(values: NDArray[np.int32], index: NDArray[np.intp] | NDArray[np.int32]) -> NDArray[np.int32]:
    """The value at each index, by torch, since numpy first makes a copy of 64 bits of 32-bit indexes."""
    found = torch.from_numpy(values).index_select(0, torch.from_numpy(index).flatten())
    looked_up: NDArray[np.int32] = found.view(index.shape).numpy()
    return looked_up


def top_two(
    maps: Iterator[NDArray[np.float32]],
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """(H, W) each: index of the largest map, ties to the lowest, its value, and that of the runner-up."""
    best = next(maps)
    winner, second = np.zeros(best.shape, np.int32), np.full_like(best, -np.inf)
    for index, score_map in enumerate(maps, start=1):
        better = score_map > best
        second = np.where(better, best, np.maximum(second, score_map))
        winner[better] = index
        best = np.where(better, score_map, best)
    return winner, best, second
