"""Masks from score maps: presence, thresholds, connected parts, holes, and outlines that follow pixel edges.

Score maps become *presence*, the probability of a class against its best rival, so that one number means
the same for every prompt and an absent object does not look hot. Connectivity: 8 for masks (pixels that
touch at a corner are one part), 4 for the holes in them, which is what keeps a closed outline closed.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu
from skimage.measure import label

from fgseg._checks import check_array, check_labels, check_mask, check_number, check_whole
from fgseg.errors import OptionError, ShapeError
from fgseg.types import UNLABELLED

__all__ = [
    "PixelPolygon",
    "automatic_threshold",
    "boxed_parts",
    "connected_parts",
    "exclusive_labels",
    "fill_holes",
    "pixel_polygons",
    "presence",
    "remove_small",
    "remove_small_labels",
    "single_ring",
    "threshold_mask",
]

_BINS = 256  # a power of two: bin edges are exact in float32
_FLOAT32 = np.finfo(np.float32)


class PixelPolygon(NamedTuple):
    """An area outlined along pixel edges; pixel (row, column) covers column..column+1, row..row+1.

    Attributes:
        exterior_xy: (N, 2) int32 corners (x, y) from the first in reading order, not closed, shoelace area
            positive (counter-clockwise in a frame whose y points up, clockwise as one sees the image).
        holes_xy: rings of the same kind with negative shoelace area.
    """

    exterior_xy: NDArray[np.int32]
    holes_xy: tuple[NDArray[np.int32], ...]


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


def boxed_parts(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The connected parts of a mask (8-connected) and the box of each.

    No two parts of a mask have the same box: inside it one would join the left side to the right and the
    other the top to the bottom, and they would touch where they cross. A box thus names its part.

    Args:
        mask: (H, W) bool.

    Returns:
        parts: (H, W) int32, 0 outside the mask, else the number of the part from 1. Numbers carry no order.
        boxes_xyxy: (count, 4) int32, half open; row n - 1 belongs to part n.

    Raises:
        ShapeError: not a mask.

    >>> boxed_parts(np.array([[True, False, True]]))
    (array([[1, 0, 2]], dtype=int32), array([[0, 0, 1, 1],
           [2, 0, 3, 1]], dtype=int32))
    """
    check_mask("mask", mask)
    parts, stats = _components(mask, connectivity=8)
    left, top = stats[1:, cv2.CC_STAT_LEFT], stats[1:, cv2.CC_STAT_TOP]
    width, height = stats[1:, cv2.CC_STAT_WIDTH], stats[1:, cv2.CC_STAT_HEIGHT]
    return parts, np.stack([left, top, left + width, top + height], axis=1)


def connected_parts(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """The connected parts of a mask; pixels that touch at a corner are connected (8-connectivity).

    Args:
        mask: (H, W) bool.

    Returns:
        parts: (H, W) int32, 0 outside the mask, else the number of the part from 1. Numbers carry no order.
        count: how many parts there are.

    Raises:
        ShapeError: not a mask.

    >>> connected_parts(np.array([[True, False, False], [False, True, False]]))
    (array([[1, 0, 0],
           [0, 1, 0]], dtype=int32), 1)
    """
    parts, boxes = boxed_parts(mask)
    return parts, len(boxes)


def remove_small(mask: NDArray[np.bool_], *, min_area: int) -> NDArray[np.bool_]:
    """The mask without its connected parts (8-connected) of fewer than `min_area` pixels.

    Args:
        mask: (H, W) bool.
        min_area: pixels a part needs to stay; 0 and 1 keep everything.

    Returns:
        (H, W) bool, a new array.

    Raises:
        ShapeError: not a mask.
        OptionError: a negative area.

    >>> remove_small(np.array([[True, True, False, True]]), min_area=2)
    array([[ True,  True, False, False]])
    """
    check_mask("mask", mask)
    _check_area("min_area", min_area)
    parts, stats = _components(mask, connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= min_area
    kept[0] = False  # component 0 is what lies outside the mask
    return kept[parts]


def fill_holes(mask: NDArray[np.bool_], *, max_area: int) -> NDArray[np.bool_]:
    """The mask with its small holes filled.

    A hole is a 4-connected set of pixels outside the mask that does not reach the border of the image.

    Args:
        mask: (H, W) bool.
        max_area: pixels of the largest hole that is filled; 0 fills none.

    Returns:
        (H, W) bool, a new array.

    Raises:
        ShapeError: not a mask.
        OptionError: a negative area.

    >>> ring = np.array([[True, True, True], [True, False, True], [True, True, True]])
    >>> bool(fill_holes(ring, max_area=1).all()), bool(fill_holes(ring, max_area=0).all())
    (True, False)
    """
    check_mask("mask", mask)
    _check_area("max_area", max_area)
    outside, stats = _components(~mask, connectivity=4)
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    inner = (left > 0) & (left + stats[:, cv2.CC_STAT_WIDTH] < mask.shape[1])
    inner &= (top > 0) & (top + stats[:, cv2.CC_STAT_HEIGHT] < mask.shape[0])
    filled = inner & (stats[:, cv2.CC_STAT_AREA] <= max_area)
    whole: NDArray[np.bool_] = mask | filled[outside]
    return whole


def remove_small_labels(labels: NDArray[np.int32], *, min_area: int) -> NDArray[np.int32]:
    """Labels with the small connected parts (8-connected, one class each) taken out.

    All classes are measured in one pass over the image.

    Args:
        labels: (H, W) int32, UNLABELLED where no class is.
        min_area: pixels a part needs to stay; 0 and 1 keep everything.

    Returns:
        (H, W) int32, a new array, UNLABELLED where a part went.

    Raises:
        ShapeError: `labels` is not (H, W) int32.
        OptionError: a negative area.

    >>> remove_small_labels(np.int32([[3, 3, 0, 3]]), min_area=2)
    array([[ 3,  3, -1, -1]], dtype=int32)
    """
    check_labels(labels)
    _check_area("min_area", min_area)
    if min_area <= 1:  # measuring parts costs a tenth of a segmentation
        return labels.copy()
    # skimage's 2 is OpenCV's 8
    parts = label(labels, background=UNLABELLED, connectivity=2)  # type: ignore[no-untyped-call]
    small = np.bincount(parts.ravel(), minlength=1) < min_area
    return np.where(small[parts], np.int32(UNLABELLED), labels)


def pixel_polygons(mask: NDArray[np.bool_], *, connectivity: Literal[4, 8] = 4) -> list[PixelPolygon]:
    """The outlines of a mask along the edges of its pixels, exact: filling them gives the mask back.

    Corners only (collinear points are left out). What happens where two pixels touch at a corner:

    * 4: they belong to different polygons, and every ring is simple: it never meets itself. This is what
      geographic software calls valid; holes may touch the exterior at single corners.
    * 8: one polygon for each connected part and one ring for each of its holes; a ring may touch itself at a
      corner, without crossing.

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
    parts, _ = _components(mask, connectivity=connectivity)
    corners_xy, successors, vertices = _corner_graph(np.pad(mask, 1), joined=connectivity == 8)
    rings = _cycles(successors)
    if connectivity == 4:
        rings = [piece for ring in rings for piece in _simple_pieces(ring, vertices)]
    polygons: dict[int, tuple[NDArray[np.int32], list[NDArray[np.int32]]]] = {}
    for ring in sorted(rings):
        ring_xy = corners_xy[ring]
        x, y = ring_xy[0].tolist()
        # Right and below the first corner in reading order lies the inside of the ring: mask or hole.
        if mask[y, x]:
            polygons[int(parts[y, x])] = (ring_xy, [])
        else:
            polygons[int(parts[y - 1, x])][1].append(ring_xy)
    return [PixelPolygon(exterior, tuple(holes)) for exterior, holes in polygons.values()]


def single_ring(polygon: PixelPolygon) -> NDArray[np.int32]:
    """One ring around a polygon and its holes, for formats that know no holes.

    From each hole's leftmost corner a cut runs left along a grid line to the outline, or to a hole that is
    already joined to it, and is walked there and back. It has no width and lies on no pixel's centre: even-odd
    and non-zero filling both give the mask back. Time grows with the square of the number of holes (10,000 of
    them take seconds).

    Args:
        polygon: from `pixel_polygons`.

    Returns:
        (N, 2) int32 corners (x, y), not closed; the exterior itself when there is no hole.

    >>> ring, = pixel_polygons(np.array([[True] * 3, [True, False, True], [True] * 3]))
    >>> single_ring(ring).tolist()[3:]
    [[0, 3], [0, 1], [1, 1], [1, 2], [2, 2], [2, 1], [1, 1], [0, 1]]
    """
    ring = polygon.exterior_xy
    # From the left: what lies further left, and may be met by a cut, is part of the ring already.
    for hole in sorted(polygon.holes_xy, key=lambda hole: int(hole[:, 0].min())):
        ring = _cut_open(ring, hole)
    distinct = np.concatenate([[True], (ring[1:] != ring[:-1]).any(axis=1)])
    corners: NDArray[np.int32] = ring[distinct]
    return corners


def _corner_graph(padded: NDArray[np.bool_], *, joined: bool) -> tuple[NDArray[np.int32], list[int], list[int]]:
    """The corners of a mask's outline and, for each, the next one, the mask on the right hand as one sees it.

    Along each grid line the corners in order pair up into edges. Where two pixels touch at a corner two
    outlines meet; that vertex is two corners, each with one horizontal and one vertical edge, and `joined`
    says whether the outline passes between the two pixels (they stay apart) or around both.

    Args:
        padded: mask with one pixel of False around it.
        joined: pixels that touch at a corner are joined.

    Returns:
        (N, 2) corners (x, y) in reading order; the successor of each; a number for each vertex, equal for the
        two corners of one vertex.
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
    # Of two corners at a vertex the first ends the edge from the left, the second begins the one to the
    # right; which of them ends the edge from above is the choice between passing between and around.
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
    """The cycles of a permutation, each from its smallest member."""
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
    """A ring cut wherever it comes back to a vertex; each piece from its first corner in reading order."""
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
    """One ring of an outline and a hole in it: a cut from the hole's leftmost corner left to the outline."""
    first = int(np.lexsort((hole[:, 1], hole[:, 0]))[0])
    x, y = hole[first].tolist()
    start, end = ring, np.roll(ring, -1, axis=0)
    low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    met = (start[:, 0] == end[:, 0]) & (start[:, 0] <= x) & (low <= y) & (y <= high)
    edge = int(np.argmax(np.where(met, start[:, 0], -1)))
    gate = np.array([[start[edge, 0], y]], np.int32)
    around = np.roll(hole, -first, axis=0)
    return np.concatenate([ring[: edge + 1], gate, around, around[:1], gate, ring[edge + 1 :]])


def _components(mask: NDArray[np.bool_], *, connectivity: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """OpenCV's components and their table of left, top, width, height, area; row 0 is outside the mask."""
    if not mask.any():  # OpenCV crashes on an image without pixels
        return np.zeros(mask.shape, np.int32), np.zeros((1, 5), np.int32)
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=connectivity)
    return parts.astype(np.int32, copy=False), stats.astype(np.int32, copy=False)


def _check_presence(presence_map: NDArray[np.float32]) -> None:
    check_array("presence_map", presence_map, ("H", "W"))
    if presence_map.size and not (presence_map.min() >= 0 and presence_map.max() <= 1):
        raise ShapeError(
            f"presence_map: expected values in [0, 1], got {presence_map.min():g} to {presence_map.max():g}; "
            "make it of a score map with presence()"
        )


def _check_area(name: str, area: int) -> None:
    check_whole(name, area, low=0, high=np.iinfo(np.int64).max)
