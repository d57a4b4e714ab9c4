"""Outlines of masks along the edges of their pixels."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_mask
from fgseg.errors import OptionError
from fgseg.regions.components import labelled_components

__all__ = ["PixelPolygon", "pixel_polygons", "single_ring"]


class PixelPolygon(NamedTuple):
    """The outline of an area along pixel edges; pixel (row, column) covers column..column+1, row..row+1.

    Attributes:
        exterior_xy: (N, 2) int32 corners (x, y) from the first in reading order, not closed, shoelace area
            positive (counter-clockwise in a frame whose y axis points up, clockwise in the image as displayed).
        holes_xy: rings of the same kind with negative shoelace area.
    """

    exterior_xy: NDArray[np.int32]
    holes_xy: tuple[NDArray[np.int32], ...]


def pixel_polygons(mask: NDArray[np.bool_], *, connectivity: Literal[4, 8] = 4) -> list[PixelPolygon]:
    """The exact outlines of a mask along the edges of its pixels: filling them reproduces the mask.

    Rings hold corners only, without collinear points. The connectivity says what happens where two pixels touch only
    at a corner:

    * 4: they belong to different polygons, and every ring is simple: it never meets itself. Geographic software
      calls this valid. Holes may touch the exterior at single corners.
    * 8: there is one polygon for each connected component and one ring for each of its holes. A ring may touch itself
      at a corner, without crossing.

    Time and memory are O(H x W) in numpy; each corner is visited once in Python.

    Args:
        mask: (H, W) bool.
        connectivity: 4 or 8, as above.

    Returns:
        Polygons in reading order of their first corner; empty for an empty mask.

    Raises:
        ShapeError: not a mask.
        OptionError: another connectivity.

    >>> polygon, = pixel_polygons(np.array([[True, True]]))
    >>> polygon.exterior_xy.tolist(), polygon.holes_xy
    ([[0, 0], [2, 0], [2, 1], [0, 1]], ())
    """
    check_mask("mask", mask)
    if connectivity not in (4, 8):
        raise OptionError(f"connectivity: expected 4 or 8, got {connectivity!r}")
    components, _ = labelled_components(mask, connectivity=connectivity)
    corners_xy, successors, vertices = _corner_graph(np.pad(mask, 1), joined=connectivity == 8)
    rings = _cycles(successors)
    if connectivity == 4:
        rings = [piece for ring in rings for piece in _simple_pieces(ring, vertices)]
    polygons: dict[int, tuple[NDArray[np.int32], list[NDArray[np.int32]]]] = {}
    for ring in sorted(rings):
        ring_xy = corners_xy[ring]
        x, y = ring_xy[0].tolist()
        # The pixel to the right and below the first corner in reading order is inside the ring: mask or hole.
        if mask[y, x]:
            polygons[int(components[y, x])] = (ring_xy, [])
        else:
            polygons[int(components[y - 1, x])][1].append(ring_xy)
    return [PixelPolygon(exterior, tuple(holes)) for exterior, holes in polygons.values()]


def single_ring(polygon: PixelPolygon) -> NDArray[np.int32]:
    """One ring around a polygon and its holes, for formats without holes.

    From the leftmost corner of each hole a cut runs left along a grid line to the outline, or to a hole that is
    already joined to it. The ring follows the cut in both directions. The cut has no width and meets no pixel centre,
    so even-odd and non-zero filling both reproduce the mask. Time grows with the square of the number of holes (10,000
    of them take seconds).

    Args:
        polygon: from `pixel_polygons`.

    Returns:
        (N, 2) int32 corners (x, y), not closed; the exterior itself when there is no hole.

    >>> ring, = pixel_polygons(np.array([[True] * 3, [True, False, True], [True] * 3]))
    >>> single_ring(ring).tolist()[3:]
    [[0, 3], [0, 1], [1, 1], [1, 2], [2, 2], [2, 1], [1, 1], [0, 1]]
    """
    ring = polygon.exterior_xy
    # From left to right: everything that a cut may meet further left is in the ring already.
    for hole in sorted(polygon.holes_xy, key=lambda hole: int(hole[:, 0].min())):
        ring = _cut_open(ring, hole)
    distinct = np.concatenate([[True], (ring[1:] != ring[:-1]).any(axis=1)])
    return ring[distinct]


def _corner_graph(padded: NDArray[np.bool_], *, joined: bool) -> tuple[NDArray[np.int32], list[int], list[int]]:
    """The corners of a mask's outline and the successor of each, with the mask on the right in the displayed image.

    The corners on each grid line, in order, form pairs that are edges. Where two pixels touch only at a corner, two
    outlines meet. Such a vertex is two corners, each with one horizontal and one vertical edge, and `joined`
    says whether the outline passes between the two pixels (they stay separate) or around both.

    Args:
        padded: the mask with a border of one pixel of False.
        joined: whether pixels that touch only at a corner are joined.

    Returns:
        (N, 2) corners (x, y) in reading order; the successor of each; the number of its vertex, which two corners
        may share.
    """
    above_left, above_right = padded[:-1, :-1], padded[:-1, 1:]
    below_left, below_right = padded[1:, :-1], padded[1:, 1:]
    touching = (above_left == below_right) & (above_right == below_left) & (above_left != above_right)
    turning = above_left ^ above_right ^ below_left ^ below_right
    y, x = np.nonzero(touching | turning)
    double = touching[y, x]
    y, x = np.repeat(y, 1 + double), np.repeat(x, 1 + double)
    second = np.zeros(len(x), bool)
    second[1:] = (y[1:] == y[:-1]) & (x[1:] == x[:-1])
    # Of two corners at a vertex, the first ends the edge from the left and the second begins the edge to the
    # right. Which of them ends the edge from above decides whether the outline passes between the pixels or around.
    falling = padded[y, x]  # the touching pixels are above left and below right
    lower = second ^ (touching[y, x] & (falling == joined))
    numbers = np.arange(len(x))
    successors = np.empty(len(x), np.int64)
    left, right = numbers[0::2], numbers[1::2]
    rightward = padded[y[left] + 1, x[left] + 1]  # mask below the edge
    successors[np.where(rightward, left, right)] = np.where(rightward, right, left)
    column_order = np.lexsort((lower, y, x))
    upper_end, lower_end = column_order[0::2], column_order[1::2]
    downward = padded[y[upper_end] + 1, x[upper_end]]  # mask left of the edge
    successors[np.where(downward, upper_end, lower_end)] = np.where(downward, lower_end, upper_end)
    return np.stack([x, y], axis=1).astype(np.int32), successors.tolist(), (numbers - second).tolist()


def _cycles(successors: list[int]) -> list[list[int]]:
    """The cycles of a permutation, each starting at its smallest member."""
    cycles = []
    seen = bytearray(len(successors))
    for start in range(len(successors)):
        cycle = []
        node = start
        while not seen[node]:
            seen[node] = True
            cycle.append(node)
            node = successors[node]
        if cycle:
            cycles.append(cycle)
    return cycles


def _simple_pieces(ring: list[int], vertices: list[int]) -> Iterator[list[int]]:
    """The pieces of a ring, cut wherever it returns to a vertex; each starts at its first corner in reading order."""
    path: list[int] = []
    position: dict[int, int] = {}
    for corner in ring:
        vertex = vertices[corner]
        if vertex in position:
            start = position[vertex]
            piece = path[start:]
            del path[start:]
            for gone in piece:
                del position[vertices[gone]]
            first = piece.index(min(piece))
            yield piece[first:] + piece[:first]
        position[vertex] = len(path)
        path.append(corner)
    first = path.index(min(path))
    yield path[first:] + path[:first]


def _cut_open(ring: NDArray[np.int32], hole: NDArray[np.int32]) -> NDArray[np.int32]:
    """One ring of an outline and a hole in it, joined by a cut from the leftmost corner of the hole to the left."""
    first = int(np.lexsort((hole[:, 1], hole[:, 0]))[0])
    x, y = hole[first].tolist()
    start, end = ring, np.roll(ring, -1, axis=0)
    low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    met = (start[:, 0] == end[:, 0]) & (start[:, 0] <= x) & (low <= y) & (y <= high)
    edge = int(np.argmax(np.where(met, start[:, 0], -1)))
    gate = np.array([[start[edge, 0], y]], np.int32)
    around = np.roll(hole, -first, axis=0)
    return np.concatenate([ring[: edge + 1], gate, around, around[:1], gate, ring[edge + 1 :]])
