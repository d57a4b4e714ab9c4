"""Outlines of masks along the edges of their pixels."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_mask
from fgseg.errors import OptionError
from fgseg.regions.components import labelled_components

__all__ = ["PixelPolygon", "inset_ring", "pixel_polygons", "single_ring"]

_INSET = 1 / 32
"""Pixels by which `inset_ring` moves a ring inwards: six decimals of a share keep it up to 60,000 pixels."""


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

    From the leftmost corner of each hole a cut runs left along a grid line to the outline or to another hole. The ring
    follows the cut in both directions. The cut has no width and meets no pixel centre, so even-odd and non-zero filling
    both reproduce the mask. 100,000 holes take about a second.

    Args:
        polygon: from `pixel_polygons`.

    Returns:
        (N, 2) int32 corners (x, y), not closed; the exterior itself when there is no hole.

    >>> ring, = pixel_polygons(np.array([[True] * 3, [True, False, True], [True] * 3]))
    >>> single_ring(ring).tolist()[3:]
    [[0, 3], [0, 1], [1, 1], [1, 2], [2, 2], [2, 1], [1, 1], [0, 1]]
    """
    if not polygon.holes_xy:
        return polygon.exterior_xy
    corners_xy, successors, cuts = _cuts([polygon.exterior_xy, *polygon.holes_xy])
    count, num_cuts = len(corners_xy), len(cuts.hole_corners)
    # Three corners more for each cut: its end, its start for the second time, its end for the second time.
    gates = np.arange(count, count + num_cuts)
    again, gates_again = gates + num_cuts, gates + 2 * num_cuts
    links = np.concatenate([successors, cuts.hole_corners, gates_again, np.zeros(num_cuts, np.int64)])
    before = np.argsort(successors)  # the corner before each corner
    links[before[cuts.hole_corners]] = again
    # Edges that are met run upwards: the cuts of one edge follow from the lowest to the highest.
    order = np.lexsort((-cuts.gates_xy[:, 1], cuts.edges))
    edges = cuts.edges[order]
    first = np.diff(edges, prepend=-1) != 0
    last = np.append(first[1:], True)
    links[edges[first]] = gates[order[first]]
    links[gates_again[order[last]]] = successors[edges[last]]
    links[gates_again[order[:-1][~last[:-1]]]] = gates[order[1:][~first[1:]]]
    points_xy = np.concatenate([corners_xy, cuts.gates_xy, corners_xy[cuts.hole_corners], cuts.gates_xy])
    ring = points_xy[_cycle_from(0, links.tolist())]
    return ring[np.append(True, (ring[1:] != ring[:-1]).any(axis=1))]


def inset_ring(polygon: PixelPolygon) -> NDArray[np.float64]:
    """`single_ring`, moved inwards by a thirty-second of a pixel, for readers that drop the fraction of a coordinate.

    Such readers (OpenCV's fillPoly on integers, Pillow's polygon) paint the pixel of each corner and all that lie
    between. The right side of a ring along pixel edges belongs to the next pixel, so the shape would grow to the right
    and below. A ring that is moved inwards has every corner in a pixel of the mask, and they paint exactly the mask. A
    reader that fills the pixels whose centres lie inside still paints the mask too.

    Where the ring touches itself at a corner, it passes from one pixel to the other along their diagonal.

    Args:
        polygon: from `pixel_polygons`.

    Returns:
        (N, 2) float64 corners (x, y), not closed.

    >>> polygon, = pixel_polygons(np.array([[True, True]]))
    >>> inset_ring(polygon).tolist()
    [[0.03125, 0.03125], [1.96875, 0.03125], [1.96875, 0.96875], [0.03125, 0.96875]]
    """
    ring = single_ring(polygon)
    leaving = np.sign(np.roll(ring, -1, axis=0) - ring)
    arriving = np.roll(leaving, 1, axis=0)
    # The mask is on the right of each edge in the displayed image.
    inwards_before, inwards_after = (np.stack([-step[:, 1], step[:, 0]], axis=1) for step in (arriving, leaving))
    turn = arriving[:, 0] * leaving[:, 1] - arriving[:, 1] * leaving[:, 0]
    shift = np.where(turn[:, None] == 0, inwards_after, inwards_before + inwards_after)
    touching = _met_twice(ring, turn < 0)
    first = np.where(touching[:, None], inwards_before - arriving, shift)
    second = inwards_after + leaving
    corners = np.stack([ring + _INSET * first, ring + _INSET * second], axis=1)
    inset: NDArray[np.float64] = corners[np.stack([np.ones(len(ring), bool), touching], axis=1)]
    return inset


def _met_twice(ring: NDArray[np.int32], chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which corners are chosen and lie where another chosen corner lies."""
    _, places, counts = np.unique(ring[chosen], axis=0, return_inverse=True, return_counts=True)
    found = np.zeros(len(ring), bool)
    found[chosen] = counts[places.ravel()] > 1
    return found


class _Cuts(NamedTuple):
    """One cut for each hole.

    Attributes:
        hole_corners: (N,) the corner of each hole where its cut begins.
        edges: (N,) the corner where the edge begins that the cut meets.
        gates_xy: (N, 2) int32, where it meets it.
    """

    hole_corners: NDArray[np.int64]
    edges: NDArray[np.int64]
    gates_xy: NDArray[np.int32]


def _cuts(rings: list[NDArray[np.int32]]) -> tuple[NDArray[np.int32], NDArray[np.int64], _Cuts]:
    """The corners of all rings, the successor of each, and the cuts of all rings but the first."""
    lengths = np.array([len(ring) for ring in rings])
    starts = np.cumsum(lengths) - lengths
    corners_xy = np.concatenate(rings)
    successors = np.arange(1, len(corners_xy) + 1)
    successors[starts + lengths - 1] = starts
    x, y = corners_xy.T.astype(np.int64)
    owner = np.repeat(np.arange(len(rings)), lengths)
    hole_corners = np.lexsort((y, x, owner))[starts[1:]]  # the leftmost, of these the highest
    # The vertical edges with the mask on their right, row by row: what a cut to the left can meet.
    edges = np.flatnonzero(y[successors] < y)
    heights = y[edges] - y[successors[edges]]
    rows = np.repeat(y[edges], heights) - 1 - _counts_from_zero(heights)
    keys = rows * (x.max() + 1) + np.repeat(x[edges], heights)
    order = np.argsort(keys)
    keys, met = keys[order], np.repeat(edges, heights)[order]
    hole_x, hole_y = x[hole_corners], y[hole_corners]
    # In the row below the corner the hole itself begins; in the row above another hole may end at the corner.
    below = met[np.searchsorted(keys, hole_y * (x.max() + 1) + hole_x, side="left") - 1]
    above = met[np.searchsorted(keys, (hole_y - 1) * (x.max() + 1) + hole_x, side="right") - 1]
    nearest = np.where(x[above] > x[below], above, below)
    return corners_xy, successors, _Cuts(hole_corners, nearest, np.stack([x[nearest], hole_y], axis=1).astype(np.int32))


def _counts_from_zero(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, .. for each length, one after another."""
    counts: NDArray[np.int64] = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return counts


def _cycle_from(start: int, links: list[int]) -> list[int]:
    cycle = [start]
    while (node := links[cycle[-1]]) != start:
        cycle.append(node)
    return cycle


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
