"""Graphs of alike patches and of alike pixels, along which scores are propagated.

They are those of LPOSS and LPOSS+ (Stojnić et al., "LPOSS: Label Propagation Over Patches and Pixels for
Open-vocabulary Semantic Segmentation", CVPR 2025). An edge has the weight W_ij / sqrt(D_i D_j), where D_i is the sum of
the weights at i, and 1 where that is 0. No node has an edge to itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgseg._checks import check_array, check_image, check_whole
from fgseg.upsample.tensors import full_precision

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["Graph", "PatchGraph", "PixelGraph", "patch_graph", "patch_places", "pixel_graph"]

NEIGHBOURS = 400
RADIUS = 6
"""Pixels: a pixel has edges to the others of 13 x 13 around it."""
_POWER = 3  # of a cosine
_DECAY = 0.01  # for each pixel of distance between two patches
_COLOR_SCALE = 0.01  # of a distance in Lab, where L is divided by 100 and a and b by 128
_PATCH = 16  # pixels
_LAB_RANGE = np.array([100.0, 128.0, 128.0])
_COSINES_AT_ONCE = 2**24
_BAND = 64  # rows of pixels, so that a band of some maps stays in the processor's cache


class Graph(Protocol):
    """The normalised weights of the edges between nodes."""

    @property
    def ones(self) -> Tensor:
        """A map (1, N) or (1, H, W) of ones, of the dtype and on the device of all maps."""

    def times(self, maps: Tensor) -> Tensor:
        """For each of T maps and each node the sum of the other nodes' values, each times the weight of the edge."""


@dataclass(frozen=True, eq=False)
class PatchGraph:
    """A graph of patches; `weights` is a sparse (N, N) float64 matrix. Products are computed on the CPU."""

    weights: csr_array

    @property
    def ones(self) -> Tensor:
        """(1, N) float64."""
        return torch.ones((1, self.weights.shape[0]), dtype=torch.float64, device="cpu")

    def times(self, maps: Tensor) -> Tensor:
        """As `Graph.times`, for (T, N) float64."""
        return torch.from_numpy(np.ascontiguousarray((self.weights @ maps.numpy().T).T))


@dataclass(frozen=True, eq=False)
class PixelGraph:
    """A graph of pixels; `weights` is (84, H, W) float32, each pixel's edges to half of its neighbours."""

    weights: Tensor

    @property
    def ones(self) -> Tensor:
        """(1, H, W) of the weights' dtype."""
        return torch.ones_like(self.weights[:1])

    @full_precision
    def times(self, maps: Tensor) -> Tensor:
        """As `Graph.times`, for (T, H, W) float32. Each weight is read once and counts in both directions."""
        height, width = maps.shape[1:]
        padded = torch.nn.functional.pad(maps, (RADIUS,) * 4)
        total = torch.zeros_like(padded)
        for band in _bands(height, maps.device):
            rows, columns = _moved(band, RADIUS), slice(RADIUS, RADIUS + width)
            here, sum_here = padded[:, rows, columns], total[:, rows, columns]
            for weight, (down, right) in zip(self.weights[:, band].unbind(), _offsets(), strict=True):
                there = (slice(None), _moved(rows, down), _moved(columns, right))
                sum_here.addcmul_(weight, padded[there])
                total[there].addcmul_(weight, here)
        return total[:, RADIUS:-RADIUS, RADIUS:-RADIUS]


def patch_graph(features: Tensor, places_yx: Tensor, *, neighbours: int = NEIGHBOURS) -> PatchGraph:
    """The graph of patches whose features are alike; a patch of two overlapping windows is two nodes.

    A node has edges to its `neighbours` largest cosines, itself included, with max(cosine, 0)³ exp(-0.01 distance) as
    weights. Edges that two nodes have to each other are added.

    Args:
        features: (N, C) float32, unit length along C.
        places_yx: (N, 2) row and column of each patch, in pixels.
        neighbours: at least 1; all nodes if there are fewer.

    Returns:
        The graph, whose memory is O(N x neighbours).

    Raises:
        ShapeError: arguments of other axes.
        OptionError: `neighbours` below 1.
    """
    from scipy.sparse import csr_array  # takes a third of a second, so it is imported only when it is used

    check_array("features", features, ("N", "C"))
    check_array("places_yx", places_yx, (len(features), 2), hint="a row and a column for each patch")
    count = len(features)
    nearest = min(check_whole("neighbours", neighbours, low=1, high=2**31 - 1), count)
    places = places_yx.to("cpu").double()
    found: list[tuple[Tensor, Tensor]] = []
    for rows, cosines in _rows_of_cosines(features):
        cosine, other = (values.cpu() for values in cosines.topk(nearest))
        distance = torch.linalg.vector_norm(places[rows, None] - places[other], dim=-1)
        weight = cosine.double().clamp(min=0) ** _POWER * (-_DECAY * distance).exp()
        found.append((other, weight.masked_fill_(other == torch.arange(count, device="cpu")[rows, None], 0)))
    others, weights = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    first_of_row = np.arange(0, nearest * count + 1, nearest)
    directed = csr_array((weights.ravel(), others.ravel(), first_of_row), (count, count))
    both = (directed + directed.T).tocsr()
    both.eliminate_zeros()
    degree = np.asarray(both.sum(axis=1))
    scale = 1 / np.sqrt(np.where(degree > 0, degree, 1))
    row_of_edge = np.repeat(np.arange(count), np.diff(both.indptr))
    both.data *= scale[row_of_edge] * scale[both.indices]
    return PatchGraph(both)


def patch_places(grids_hw: Sequence[tuple[int, int]], boxes_xyxy: Sequence[tuple[int, int, int, int]]) -> Tensor:
    """Where the patches of overlapping windows lie, for `patch_graph`.

    A side of a patch counts as 16 pixels, as in the published setting, so that the reach of a patch depends neither on
    the size of the image nor on that of the model's patches.

    Args:
        grids_hw: rows and columns of the patches of each window.
        boxes_xyxy: where each window lies on the canvas.

    Returns:
        (N, 2) float64 row and column of the centre of each patch, window by window.

    >>> patch_places([(1, 2), (1, 2)], [(0, 0, 20, 10), (10, 0, 30, 10)]).tolist()
    [[8.0, 8.0], [8.0, 24.0], [8.0, 24.0], [8.0, 40.0]]
    """
    places = []
    for (rows, columns), (left, top, right, bottom) in zip(grids_hw, boxes_xyxy, strict=True):
        down = torch.arange(rows, dtype=torch.float64, device="cpu") + 0.5 + top * rows / (bottom - top)
        across = torch.arange(columns, dtype=torch.float64, device="cpu") + 0.5 + left * columns / (right - left)
        places.append(torch.cartesian_prod(down, across) * _PATCH)
    return torch.cat(places)


def pixel_graph(image: NDArray[np.uint8], *, device: torch.device | str = "cpu") -> PixelGraph:
    """The graph of pixels whose colours are alike, among the 13 x 13 around each: exp(-(distance in Lab) / 0.01).

    Weights below 1e-38 are 0 in float32. They belong to pixels unlike all around them, which then keep their score.

    Args:
        image: (H, W, 3) uint8 RGB.
        device: of the weights.

    Returns:
        The graph; 336 bytes per pixel.

    Raises:
        ShapeError: not an RGB image.
    """
    from skimage.color import rgb2lab  # loads Pillow, which scoring does not need otherwise

    check_image("image", image)
    height, width = image.shape[:2]
    lab = np.asarray(rgb2lab(image / 255), np.float64)
    colors = torch.from_numpy(lab / _LAB_RANGE).to(device, torch.float32).permute(2, 0, 1)
    weights = colors.new_zeros(len(_offsets()), height, width)
    for weight, (here, there) in zip(weights, _pairs(height, width), strict=True):
        distance = (colors[:, *here] - colors[:, *there]).square_().sum(0).sqrt_()
        weight[here] = distance.mul_(-1 / _COLOR_SCALE).exp_()
    graph = PixelGraph(weights)
    degree = graph.times(colors.new_ones(1, height, width))[0]
    scale = torch.where(degree > 0, degree, 1).rsqrt()
    for weight, (here, there) in zip(weights, _pairs(height, width), strict=True):
        weight[here] *= scale[here] * scale[there]
    return graph


def _rows_of_cosines(features: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some patches, and their cosines with all, (n, N)."""
    step = max(1, _COSINES_AT_ONCE // len(features))
    for first in range(0, len(features), step):
        rows = slice(first, first + step)
        yield rows, _product(features[rows], features)


@full_precision
def _product(rows: Tensor, others: Tensor) -> Tensor:
    return rows @ others.T


def _offsets() -> list[tuple[int, int]]:
    """(down, right) from a pixel to half of its neighbours; the other half has the opposite offsets."""
    steps = range(-RADIUS, RADIUS + 1)
    return [(down, right) for down in range(RADIUS + 1) for right in steps if (down, right) > (0, 0)]


def _pairs(height: int, width: int) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """For each offset the pixels that have a neighbour there, and those neighbours."""
    for down, right in _offsets():
        rows, left = slice(0, max(height - down, 0)), max(-right, 0)
        columns = slice(left, max(width - max(right, 0), left))
        yield (rows, columns), (_moved(rows, down), _moved(columns, right))


def _moved(span: slice, by: int) -> slice:
    return slice(span.start + by, span.stop + by)


def _bands(height: int, device: torch.device) -> Iterator[slice]:
    """Runs of rows; one run of all rows on a GPU, where few large steps are faster."""
    step = _BAND if device.type == "cpu" else height
    return (slice(top, min(top + step, height)) for top in range(0, height, step))
