"""Trees without leaves: a trunk forks into limbs, limbs fork into twigs, and the sky shows between them."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["bare_tree", "crown"]

Floats = NDArray[np.floating[Any]]
FORKS = 7  # generations, from the trunk to the last twigs
SUBPIXEL = 4  # fractional bits of the coordinates that cv2 draws
MESH = 0.09  # share of a tree's height: openings up to this size belong to its crown


def bare_tree(rng: np.random.Generator, image_hw: tuple[int, int], foot: tuple[float, float], tall: float) -> Floats:
    """(H, W) in [0, 1]: how much of each pixel a bare tree covers.

    Args:
        rng: source of the directions and lengths.
        image_hw: (height, width) in pixels.
        foot: (y, x) in pixels of the bottom of the trunk; may lie outside the image.
        tall: approximate height in pixels.
    """
    ends = np.array([foot])
    turns = np.array([rng.normal(0, 0.08)])
    length, width = tall * rng.uniform(0.22, 0.32), tall * rng.uniform(0.03, 0.06)
    levels = []
    for _ in range(FORKS):
        lengths = length * rng.uniform(0.6, 1.3, len(turns))
        starts, ends = ends, ends + lengths[:, None] * np.stack([-np.cos(turns), np.sin(turns)], 1)
        levels.append((starts, ends, width))
        ends, turns = _forked(rng, ends, turns)
        length, width = length * 0.76, width * 0.62
    canvas = np.zeros(image_hw, np.uint8)
    for starts, stops, thick in reversed(levels):  # the trunk last, so that no twig is drawn over it
        _draw(canvas, starts, stops, thick)
    return canvas.astype(np.float32) / 255


def _forked(
    rng: np.random.Generator, ends: NDArray[np.float64], turns: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Starting points and directions of the next limbs: two or three from each end, spread apart."""
    count = rng.integers(2, 4, len(turns))
    spread = np.concatenate([np.linspace(-1, 1, number) for number in count]) * rng.uniform(0.25, 0.6)
    heading = np.repeat(turns, count) * 0.95 + spread + rng.normal(0, 0.18, count.sum())
    return np.repeat(ends, count, axis=0), heading


def _draw(canvas: NDArray[np.uint8], starts: NDArray[np.float64], stops: NDArray[np.float64], width: float) -> None:
    """Draw lines between (y, x) points; lines thinner than a pixel are drawn one pixel wide and fainter."""
    points = np.rint(np.stack([starts, stops], 1)[..., ::-1] * 2**SUBPIXEL).astype(np.int32)
    value = int(255 * min(1.0, max(0.25, width)))
    cv2.polylines(canvas, list(points), False, value, max(1, round(width)), cv2.LINE_AA, SUBPIXEL)


def crown(coverage: Floats, tall: float) -> Floats:
    """(H, W) of 0 and 1: a bare tree with the small openings in its crown, which people label as tree too."""
    radius = max(1, round(MESH * tall / 2))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    edge = radius + 1  # padding, so that a crown at the edge of the picture is closed as any other
    padded = cv2.copyMakeBorder((coverage > 0.1).astype(np.uint8), edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, kernel)
    return np.asarray(closed[edge:-edge, edge:-edge], np.float32)
