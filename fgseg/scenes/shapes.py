"""Signed distances of the scenes' shapes.

Each function takes a random generator and coordinates (u to the right, v down, in units of the shape's radius). It
returns a signed distance, positive inside and roughly in units of the radius, from which a pixel-wide edge is drawn.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["OUTLINES"]

Floats = NDArray[np.floating[Any]]


def _regular(sides: int) -> Callable[[np.random.Generator, Floats, Floats], Floats]:
    """A regular polygon with a horizontal lower edge: the distance to its nearest side."""
    normals = [2 * np.pi * (k + 0.5) / sides for k in range(sides)]

    def inside(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
        return np.cos(np.pi / sides) - np.max([u * np.sin(a) - v * np.cos(a) for a in normals], axis=0)

    return inside


def _circle(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    return 1 - np.hypot(u, v)


def _oval(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    return (1 - np.hypot(u, v / rng.uniform(0.45, 0.7))) * 0.55


def _square(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    return 0.85 - np.maximum(np.abs(u), np.abs(v))


def _rectangle(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    thin = rng.uniform(0.35, 0.6)
    u, v = (u, v) if rng.random() < 0.5 else (v, u)
    return np.minimum(1 - np.abs(u), thin - np.abs(v))


def _diamond(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    return (1 - np.abs(u) / 0.75 - np.abs(v)) * 0.6


def _star(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    angle = np.abs((np.arctan2(u, -v) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    # An edge of the star runs from the tip at radius 1 to the notch at radius 0.42, 36 degrees away.
    tip, notch = np.array([0.0, 1.0]), 0.42 * np.array([np.sin(np.pi / 5), np.cos(np.pi / 5)])
    normal = np.array([tip[1] - notch[1], notch[0] - tip[0]]) / np.hypot(*(tip - notch))
    length = np.hypot(u, v)
    return normal[1] - (length * np.sin(angle) * normal[0] + length * np.cos(angle) * normal[1])


def _cross(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    arm = rng.uniform(0.25, 0.35)
    a, b = np.abs(u), np.abs(v)
    return np.minimum(1 - np.maximum(a, b), arm - np.minimum(a, b))


def _ring(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    thick = rng.uniform(0.18, 0.28)
    return thick - np.abs(np.hypot(u, v) - (1 - thick))


def _crescent(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    return np.minimum(1 - np.hypot(u, v), np.hypot(u - rng.uniform(0.4, 0.55), v) - 0.8)


def _heart(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    a, b = np.abs(u) * 1.15, -v * 1.15 + 0.1
    return (1 - np.hypot(a, b - 0.65 * np.sqrt(a))) * 0.7


def _blob(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    angle = np.arctan2(v, u)
    outline = 0.72 + sum(rng.uniform(0, 0.22 / k) * np.sin(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 4, 5))
    return (outline - np.hypot(u, v)) * 0.8


OUTLINES: dict[str, Callable[[np.random.Generator, Floats, Floats], Floats]] = {
    "circle": _circle, "oval": _oval, "square": _square, "rectangle": _rectangle, "triangle": _regular(3),
    "diamond": _diamond, "pentagon": _regular(5), "hexagon": _regular(6), "star": _star, "cross": _cross,
    "ring": _ring, "crescent": _crescent, "heart": _heart, "blob": _blob,
}  # fmt: skip
