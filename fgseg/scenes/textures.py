"""Periodic noise textures for surfaces: computed once and sampled at any coordinates."""

from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["CLOUDY", "FINE", "SIDE", "STREAKY", "Cells", "axes", "cells", "crop", "lookup"]

Floats = NDArray[np.floating[Any]]
SIDE = 512  # texels of a tile, a power of two
CLOUDY, STREAKY, FINE = 0, 1, 2
_CELLS = 700  # cells in a tile


def axes(image_hw: tuple[int, int]) -> tuple[Floats, Floats]:
    """Pixel centres (H, 1) and (1, W), in units of the shorter side; the origin is the centre of the image."""
    height, width = image_hw
    short = min(image_hw)
    y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / short
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / short
    return y[:, None], x[None, :]


@lru_cache(maxsize=1)
def _bank() -> tuple[Floats, ...]:
    """Tiles of 1/f noise of zero mean and unit variance: cloudy, streaky along v (wood, blades of grass), and fine."""
    rng = np.random.default_rng(20250505)
    fy, fx = np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None, :]
    bank = []
    for squeeze, power in ((1.0, 1.6), (8.0, 1.3), (1.0, 0.7)):
        falloff = np.maximum(np.hypot(fy * squeeze, fx), 1 / SIDE) ** -power
        waves = np.fft.ifft2(np.fft.fft2(rng.normal(size=(SIDE, SIDE))) * falloff).real
        bank.append(((waves - waves.mean()) / waves.std()).astype(np.float32))
    return tuple(bank)


def crop(rng: np.random.Generator, image_hw: tuple[int, int], kind: int) -> Floats:
    """(H, W) of noise, one texel per pixel, from a random origin; half of the crops are transposed."""
    bank = _bank()[kind]
    bank = bank.T if rng.random() < 0.5 else bank
    rows = (rng.integers(SIDE) + np.arange(image_hw[0])) % SIDE
    columns = (rng.integers(SIDE) + np.arange(image_hw[1])) % SIDE
    return bank[rows[:, None], columns]


def lookup(rng: np.random.Generator, kind: int, u: Floats, v: Floats) -> Floats:
    """(H, W) of noise at texture coordinates from a random origin; the tile has side 1."""
    return _at(_bank()[kind], u + rng.random(), v + rng.random(), cv2.INTER_LINEAR)


class Cells(NamedTuple):
    """Irregular cells, such as pebbles or rubble.

    Attributes:
        edge: (H, W) from 0 at the border between two cells upwards, in widths of a cell.
        tone: (H, W) in [-1, 1], one value per cell.
    """

    edge: Floats
    tone: Floats


@lru_cache(maxsize=1)
def _cell_bank() -> Cells:
    rng = np.random.default_rng(20250506)
    points = rng.random((_CELLS, 2)) * SIDE
    shifts = np.array([(dy, dx) for dy in (-SIDE, 0, SIDE) for dx in (-SIDE, 0, SIDE)])
    tree = cKDTree((points[None] + shifts[:, None]).reshape(-1, 2))
    pixels = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), -1).reshape(-1, 2) + 0.5
    distance, nearest = tree.query(pixels, k=2)
    edge = (distance[:, 1] - distance[:, 0]) / (SIDE / np.sqrt(_CELLS))
    tone = rng.uniform(-1, 1, _CELLS)[nearest[:, 0] % _CELLS]
    return Cells(*(values.reshape(SIDE, SIDE).astype(np.float32) for values in (edge, tone)))


def cells(rng: np.random.Generator, u: Floats, v: Floats) -> Cells:
    """Cells at texture coordinates; about 26 cells along each axis of a tile of side 1."""
    edge, tone = _cell_bank()
    u, v = u + rng.random(), v + rng.random()
    return Cells(_at(edge, u, v, cv2.INTER_LINEAR), _at(tone, u, v, cv2.INTER_NEAREST))


def _at(tile: Floats, u: Floats, v: Floats, interpolation: int) -> Floats:
    u, v = (_wrapped(coordinate * SIDE) for coordinate in np.broadcast_arrays(u, v))
    return np.asarray(cv2.remap(tile, u, v, interpolation, borderMode=cv2.BORDER_WRAP), np.float32)


def _wrapped(texels: Floats) -> Floats:
    """Texels modulo SIDE. This is exact, since SIDE is a power of two, and several times as fast as np.mod."""
    return (texels - SIDE * np.floor(texels / SIDE)).astype(np.float32)
