"""Scores that flow to alike patches and pixels, as in LPOSS (Stojnić et al., CVPR 2025).

The score x of a node is its own score y and those of its neighbours: x = y + 0.95 W x, with the weights W of
`fgseg.guides.affinity`. As published, ten steps of conjugate gradients approach the solution. It grows with the degree
of its node, so it is no cosine. It is divided by the solution for y = 1, which all words share. Then a score that is
the same everywhere stays as it is, the class with the largest score stays the same, and presence and thresholds keep
their meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from fgseg._checks import check_array
from fgseg.guides.affinity import Graph
from fgseg.upsample.maps import upsample_maps
from fgseg.upsample.tensors import full_precision

__all__ = ["OVER_PATCHES", "OVER_PIXELS", "PROPAGATIONS", "Propagate", "Propagation", "solve"]

Propagate = Literal["none", "patches", "pixels", "both"]
"""Where scores flow: between alike patches (LPOSS), alike pixels, or first the one and then the other (LPOSS+)."""
PROPAGATIONS = get_args(Propagate)
OVER_PATCHES, OVER_PIXELS = ("patches", "both"), ("pixels", "both")

_SHARE = 0.95
STEPS, TOLERANCE = 10, 1e-6
_MAPS_BYTES = 2**25  # of the maps that are solved together; the solver holds six times as much


@dataclass(frozen=True, eq=False)
class Propagation:
    """The propagation of scores along one graph."""

    graph: Graph

    def propagated(self, scores: Tensor) -> Tensor:
        """Scores of the same range, each word for itself.

        Args:
            scores: (T, N) or (T, H, W) float32 cosines, one for each node of the graph.

        Returns:
            As `scores`, in [-1, 1], on the same device.

        Raises:
            ShapeError: scores of other nodes.
        """
        level = self._level
        check_array("scores", scores, ("T", *level.shape[1:]), hint="one score for each node of the graph")
        found = torch.empty_like(scores)
        for first in range(0, len(scores), self._at_once):
            few = slice(first, first + self._at_once)
            own = scores[few].to(level.device).to(level.dtype)  # one after the other: not every device has float64
            found[few] = solve(self.graph, own).div_(level).clamp_(-1, 1).to(found.dtype)
        return found

    def drawn(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """The scores of a graph of pixels from chunks (t, h, w) of any size, a few words at a time."""
        image_hw = self._level.shape[-2], self._level.shape[-1]
        for chunk in chunks:
            for first in range(0, len(chunk), self._at_once):
                few = chunk[first : first + self._at_once]
                maps = few if few.shape[1:] == image_hw else torch.stack(list(upsample_maps(few, image_hw)))
                yield self.propagated(maps)

    @cached_property
    def _level(self) -> Tensor:
        """The solution for a score of 1 everywhere."""
        return solve(self.graph, self.graph.ones)

    @property
    def _at_once(self) -> int:
        """The number of words that are solved together."""
        return max(1, _MAPS_BYTES // (self._level.element_size() * self._level.numel()))


@full_precision
def solve(graph: Graph, scores: Tensor) -> Tensor:
    """The scores x = y + 0.95 W x after ten steps of conjugate gradients from 0, or fewer where a word has converged.

    Args:
        graph: the weights W.
        scores: y, (T, N) or (T, H, W), of the dtype and on the device of the graph's `ones`.

    Returns:
        x, of the same axes; it grows with the root of a node's degree. A word stops when its residual is at most 1e-6
        of its length.
    """
    solution = torch.zeros_like(scores)
    residual, direction = scores.clone(), scores.clone()
    square = _dot(residual, residual)
    enough = TOLERANCE**2 * square
    for _ in range(STEPS):
        running = square > enough
        if not bool(running.any()):
            break
        product = direction - _SHARE * graph.times(direction)
        length = torch.where(running, square / _dot(direction, product), 0)
        solution.addcmul_(length, direction)
        residual.addcmul_(length, product, value=-1)
        square, before = _dot(residual, residual), square
        direction.mul_(torch.where(running, square / before, 0)).add_(residual)
    return solution


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """The scalar product of each pair of maps, with axes to multiply a map by it."""
    product = torch.linalg.vecdot(left.flatten(1), right.flatten(1))
    return product.reshape(-1, *(1,) * (left.ndim - 1))
