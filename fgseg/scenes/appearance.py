"""The appearance of things: patterns, shading, cast shadows, and the effects of a camera on the whole picture."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fgseg.scenes.textures import CLOUDY, FINE, axes, crop

__all__ = ["as_pixels", "cast_shadow", "form_shadow", "highlight", "pattern", "photographed", "shading"]

Floats = NDArray[np.floating[Any]]


def pattern(rng: np.random.Generator, at: tuple[Floats, Floats], name: str) -> Floats:
    """(H, W) in [0, 1]: the share of the second colour at coordinates of `axes`; the first covers about half."""
    y, x = at
    image_hw = len(y), x.size
    if name == "plain":
        return np.zeros(image_hw, np.float32)
    if name == "speckled":
        return (crop(rng, image_hw, FINE) > rng.uniform(0.5, 0.9)).astype(np.float32)
    turn, period = rng.uniform(0, np.pi), rng.uniform(0.07, 0.16)
    u, v = (x * np.cos(turn) + y * np.sin(turn)) / period, (y * np.cos(turn) - x * np.sin(turn)) / period
    if name == "wavy":
        v = v + 0.9 * np.sin(u * rng.uniform(1.5, 2.5))
    if name in ("striped", "wavy"):
        return np.clip((np.cos(2 * np.pi * v) - rng.uniform(0.0, 0.4)) * 3 + 0.5, 0, 1)
    if name == "checkered":
        return np.clip(np.sin(np.pi * u) * np.sin(np.pi * v) * 6 + 0.5, 0, 1)
    spot = np.hypot(u - np.round(u), v - np.round(v))
    return np.clip((rng.uniform(0.22, 0.34) - spot) * 8 + 0.5, 0, 1)


def shading(rng: np.random.Generator, at: tuple[Floats, Floats]) -> Floats:
    """(H, W) light that falls off from one side, at coordinates of `axes`."""
    y, x = at
    turn, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1.2)
    return np.clip(1 + strength * (x * np.cos(turn) + y * np.sin(turn)), 0.35, 1.3).astype(np.float32)


def highlight(rng: np.random.Generator, coverage: Floats) -> Floats:
    """(H, W) a white highlight somewhere on the thing; one thing in three has one."""
    if rng.random() > 0.33 or coverage.max() <= 0.5:
        return np.zeros_like(coverage)
    y, x = _around_random_pixel(rng, coverage)
    spread = min(coverage.shape) * rng.uniform(0.015, 0.05)
    return (rng.uniform(0.3, 0.9) * np.exp(-(y**2 + (x * rng.uniform(0.4, 1)) ** 2) / (2 * spread**2))).astype(
        np.float32
    )


def _around_random_pixel(rng: np.random.Generator, coverage: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels down (H, 1) and across (1, W) from a random pixel of the thing."""
    rows, columns = np.nonzero(coverage > 0.5)
    index = rng.integers(len(rows))
    return np.arange(coverage.shape[0])[:, None] - rows[index], np.arange(coverage.shape[1])[None] - columns[index]


def form_shadow(rng: np.random.Generator, coverage: Floats) -> Floats:
    """(H, W) light that fades across the thing, as on the far side of a cup; one thing in four has such a shadow."""
    if rng.random() > 0.25 or coverage.max() <= 0.5:
        return np.ones_like(coverage)
    y, x = _around_random_pixel(rng, coverage)
    turn = rng.uniform(0, 2 * np.pi)
    softness = np.sqrt(np.count_nonzero(coverage > 0.5)) * rng.uniform(0.05, 0.3)
    beyond = 1 / (1 + np.exp(-np.clip((x * np.cos(turn) + y * np.sin(turn)) / softness, -30, 30)))
    return (1 - rng.uniform(0.3, 0.75) * beyond).astype(np.float32)


def cast_shadow(rng: np.random.Generator, picture: Floats, coverage: Floats) -> None:
    """Darken the picture, in place, by the blurred shadow of a thing a few pixels to one side of it."""
    down, right = rng.integers(2, 9, 2) * rng.choice([-1, 1], 2)
    height, width = coverage.shape
    move = np.array([[1.0, 0, right], [0, 1, down]])
    shadow = _blurred(np.asarray(cv2.warpAffine(coverage, move, (width, height), flags=cv2.INTER_NEAREST)), 3)
    picture *= 1 - rng.uniform(0.2, 0.7) * shadow[..., None]


def _blurred(values: Floats, radius: int) -> Floats:
    """Box blur along the first two axes; edges are repeated."""
    size = 2 * radius + 1
    for axis in (0, 1):  # not cv2.blur, which rounds differently and would change the bytes of every scene
        padded = np.pad(np.moveaxis(values, axis, 0), [(radius, radius)] + [(0, 0)] * (values.ndim - 1), mode="edge")
        total = np.insert(np.cumsum(padded, axis=0, dtype=np.float32), 0, 0, axis=0)
        values = np.moveaxis((total[size:] - total[:-size]) / size, 0, axis)
    return np.ascontiguousarray(values)


def photographed(rng: np.random.Generator, picture: Floats) -> NDArray[np.uint8]:
    """The picture as uint8 after uneven light, a colour cast, shadow, blur, sensor noise and compression."""
    image_hw = picture.shape[0], picture.shape[1]
    y, x = axes(image_hw)
    turn = rng.uniform(0, 2 * np.pi)
    light = 1 + rng.uniform(0, 0.5) * (x * np.cos(turn) + y * np.sin(turn))
    if rng.random() < 0.3:
        light = light * (1 - rng.uniform(0.2, 0.6) * np.clip(crop(rng, image_hw, CLOUDY) - 0.3, 0, 1))
    picture = picture * (light * rng.uniform(0.75, 1.15))[..., None] * np.exp(rng.normal(0, 0.06, 3)).astype(np.float32)
    if rng.random() < 0.4:
        picture = _blurred(picture, 1)
    picture = picture + rng.normal(0, rng.uniform(0, 0.035), picture.shape).astype(np.float32)
    image = as_pixels(picture)
    return _compressed(image, int(rng.integers(40, 96))) if rng.random() < 0.3 else image


def as_pixels(picture: Floats) -> NDArray[np.uint8]:
    """A picture in [0, 1] as uint8; values beyond that range are clipped."""
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _compressed(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """The image after JPEG compression. cv2 swaps red and blue twice, when it encodes and when it decodes."""
    _, stored = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR), np.uint8)
