"""The winning class of each pixel and the score that it competes with."""

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fgseg.upsample.argmax import top_two
from fgseg.upsample.tensors import Values

__all__ = ["class_top_two", "looked_up"]


def class_top_two(
    maps: Iterable[Values], query_to_class: Sequence[int], num_classes: int
) -> tuple[Any, Values, Values]:
    """The winning class of each pixel, from the score maps of query words; one map is held at a time.

    Args:
        maps: (H, W) float32 score map of each query word, all tensors or all arrays.
        query_to_class: class of each map, rising. Maps of class `num_classes` are background words and negatives.
        num_classes: the number of classes that can win, at least 1.

    Returns:
        (H, W) each, of the kind of the maps: int32 winning class, ties to the lowest; its score; and its rival's, which
        is the best background word or negative, or without any the best other class.

    >>> maps = np.float32([[[0.2, 0.1]], [[0.1, 0.3]], [[0.15, 0.25]]])
    >>> class_top_two(maps, [0, 1, 2], 2)
    (array([[0, 1]], dtype=int32), array([[0.2, 0.3]], dtype=float32), array([[0.15, 0.25]], dtype=float32))
    """
    of_classes = _class_maps(maps, query_to_class)
    winner, best, second = top_two(islice(of_classes, num_classes))
    return winner, best, next(of_classes, second)


def _class_maps(maps: Iterable[Values], query_to_class: Sequence[int]) -> Iterator[Values]:
    """The largest score map of each class."""
    for _, pairs in groupby(zip(query_to_class, maps, strict=True), key=itemgetter(0)):
        of_class = (score_map for _, score_map in pairs)
        first = next(of_class)
        maximum: Any = torch.maximum if isinstance(first, torch.Tensor) else np.maximum
        yield reduce(maximum, of_class, first)


def looked_up(values: NDArray[np.int32], index: NDArray[np.intp] | NDArray[np.int32]) -> NDArray[np.int32]:
    """The value at each index, by torch, because numpy first copies 32-bit indexes to 64 bits."""
    found = torch.from_numpy(values).index_select(0, torch.from_numpy(index).flatten())
    return found.view(index.shape).numpy()
